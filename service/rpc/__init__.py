"""The gRPC services: the only package that uses protobuf."""
