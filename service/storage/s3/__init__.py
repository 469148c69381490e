"""The object store on an S3 server. The only package that uses S3."""
