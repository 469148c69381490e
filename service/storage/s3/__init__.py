"""The object store on an S3 server. The only place that knows S3."""
