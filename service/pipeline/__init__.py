"""The pipeline of a film through the model: sources, stages, sinks. No protobuf, no bucket."""
