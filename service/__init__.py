"""The gRPC microservice: films through a neural network's memory."""
