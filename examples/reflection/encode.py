"""Encodes a picture by reflection alone: no generated code, no copy of the contract.

    python examples/reflection/encode.py PICTURE [HOST:PORT]

Needs grpcio-reflection and protobuf; prints the response as JSON. examples/README.md has the same
call for `buf curl`.
"""

import sys
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "refilm.v1.AutoencoderService"


def main(picture: str, address: str = "127.0.0.1:50051") -> None:
    """Print the response of Encode."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(SERVICE).FindMethodByName("Encode")
        request_class = GetMessageClass(method.input_type)
        response_class = GetMessageClass(method.output_type)
        encode = channel.unary_unary(
            f"/{SERVICE}/{method.name}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        request = request_class()
        request.frame.image = Path(picture).read_bytes()
        print(MessageToJson(encode(request, timeout=30)))


if __name__ == "__main__":
    main(*sys.argv[1:])
