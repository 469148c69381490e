"""Objects in a bucket or a folder, and the library's layout in them. The only place that knows S3."""
