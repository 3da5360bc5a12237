// ONNX Runtime's WebGPU backend (Dawn, natively) on the case's ONNX model. Protocol: ../README.md.
"use strict";
const fs = require("fs");
const path = require("path");
const ort = require("onnxruntime-node");

const { version } = require("onnxruntime-node/package.json");
const MOST_SAMPLES = 20_000;

// The arrays of a safetensors file, all f32.
function arrays(file) {
  const bytes = fs.readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const found = {};
  for (const [name, { shape, data_offsets: [from, to] }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const copy = new Uint8Array(bytes.subarray(8 + length + from, 8 + length + to));
    found[name] = { shape, data: new Float32Array(copy.buffer) };
  }
  return found;
}

async function main() {
  const [folder, budget, tolerance] = process.argv.slice(2);
  const { input, expected } = arrays(path.join(folder, "data.safetensors"));
  const provider = process.env.PEER_DEVICE || "webgpu";
  const session = await ort.InferenceSession.create(path.join(folder, "model.onnx"), {
    executionProviders: [provider],
    // A node that falls to the CPU would be timed as if it were the GPU's: refuse it instead.
    extra: { session: { disable_cpu_ep_fallback: provider === "webgpu" ? "1" : "0" } },
  });
  const run = async () => (await session.run({ X: new ort.Tensor("float32", input.data, input.shape) })).Y.data;
  const timed = async () => {
    const start = process.hrtime.bigint();
    const output = await run();
    return [output, Number(process.hrtime.bigint() - start) / 1e3];
  };
  const [output, first] = await timed();
  if (output.length !== expected.data.length) throw new Error(`expected ${expected.data.length} numbers, got ${output.length}`);
  let error = 0;
  output.forEach((value, index) => {
    const off = Math.abs(value - expected.data[index]);
    if (off > error || Number.isNaN(off)) error = off;
  });
  const times = [];
  if (error <= Number(tolerance)) {
    await run();
    await run();
    const start = Date.now();
    while (times.length < 3 || (Date.now() - start < Number(budget) && times.length < MOST_SAMPLES)) times.push((await timed())[1]);
  }
  const shown = Number.isFinite(error) ? error : String(error);
  console.log(JSON.stringify({ version, device: provider, max_error: shown, first_us: first, times_us: times }));
}

main().catch((error) => {
  console.error(String(error.message || error));
  process.exit(1);
});
