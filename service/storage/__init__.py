"""Objects in a bucket or a folder, and the library's layout. The only place that knows S3."""
