"""A film through the model: sources, stages, sinks. Knows no protobuf and no bucket."""
