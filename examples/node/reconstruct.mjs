// Reconstructs a film: node reconstruct.mjs FILM OUT [HOST:PORT]
//
// Loads the contract itself, no generated code. The film streams from disk to the service and the
// reconstruction from the service to disk, both at the pace of the slower side.
import { createReadStream, createWriteStream } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { once } from "node:events";
import { finished, pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../proto/", import.meta.url));
const CHUNK_BYTES = 256 * 1024;
const DEADLINE_MS = 12 * 3600 * 1000;

const { positionals } = parseArgs({ allowPositionals: true });
const [film, out, address = process.env.REFILM_ADDRESS ?? "127.0.0.1:50051"] = positionals;
if (!film || !out) {
  console.error("usage: node reconstruct.mjs FILM OUT [HOST:PORT]");
  process.exit(2);
}

const definition = protoLoader.loadSync("refilm/v1/autoencoder.proto", {
  includeDirs: [PROTO],
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});
const { AutoencoderService } = grpc.loadPackageDefinition(definition).refilm.v1;
const client = new AutoencoderService(address, grpc.credentials.createInsecure());

/** The requests: settings first, then the film's bytes. */
async function* requests() {
  const { size } = await stat(film);
  yield { settings: { filmSizeBytes: size } };
  for await (const chunk of createReadStream(film, { highWaterMark: CHUNK_BYTES })) yield { chunk };
}

/** Takes the responses as they come; returns the summary. */
async function receive(call, file) {
  let facts, summary;
  // A call is an object stream: reading it one response at a time holds the service back.
  for await (const response of call) {
    switch (response.payload) {
      case "facts":
        facts = response.facts.film;
        console.log(`${facts.container}, ${facts.videoCodec}, ${facts.width} x ${facts.height}`);
        break;
      case "chunk":
        if (!file.write(response.chunk)) await once(file, "drain");
        break;
      case "progress": {
        const total = facts.estimatedFrames || "an unknown number of";
        console.log(`${response.progress.framesWritten} of ${total} frames`);
        break;
      }
      case "summary":
        summary = response.summary;
    }
  }
  if (!summary) throw new Error("the service ended the reconstruction without its summary");
  return summary;
}

const unfinished = `${out}.unfinished`;
try {
  const call = client.ReconstructVideo({ deadline: Date.now() + DEADLINE_MS });
  const file = createWriteStream(unfinished);
  // pipeline() waits for the call's "drain" whenever the connection is full.
  const sent = pipeline(requests, call, { end: true });
  // The service may end the call before the film was sent; the responses say why.
  sent.catch(() => {});
  const summary = await receive(call, file);
  file.end();
  await finished(file);
  await rename(unfinished, out);
  console.log(`${out}: ${summary.frames} frames by ${summary.model.name}`);
} catch (error) {
  await rm(unfinished, { force: true });
  console.error(`reconstruct: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
