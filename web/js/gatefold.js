// gatefold for web pages: recurrent networks on the CPU (WebAssembly) and on WebGPU. The types are in gatefold.d.ts.

import initWasm, {
    initSync as initWasmSync, version as wasmVersion,
    WasmDataset, WasmNetwork, WasmSession, WasmState, WasmTrainer,
} from './gatefold_wasm.js';

let ready = null;
let isReady = false;
// How files are read: by `fetch` in a browser; node.js replaces it.
let readFile = fetchFile;

export const version = () => { check(); return wasmVersion(); };

/** An error with the name and the kind that all errors of gatefold have. */
function failure(kind, text) {
    const error = new Error(text);
    error.name = 'GatefoldError';
    error.kind = kind;
    return error;
}

async function fetchFile(address, onProgress) {
    let response;
    try {
        response = await fetch(address);
    } catch (error) {
        throw failure('file', `${address}: ${error.message}`);
    }
    if (!response.ok) throw failure('file', `${address}: the server answered ${response.status}`);
    const total = Number(response.headers.get('content-length')) || null;
    if (!onProgress || !response.body) return new Uint8Array(await response.arrayBuffer());
    const chunks = [];
    let loaded = 0;
    for (const reader = response.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        chunks.push(value);
        loaded += value.length;
        onProgress({ loaded, total });
    }
    const bytes = new Uint8Array(loaded);
    let at = 0;
    for (const chunk of chunks) { bytes.set(chunk, at); at += chunk.length; }
    return bytes;
}

/** Sets how `Network.load` and `init` read files; for environments without `fetch`. */
export function setFileReader(reader) { readFile = reader; }

export function init(options = {}) {
    ready ??= start(options.wasm).catch((error) => { ready = null; throw error; });
    return ready;
}

async function start(wasm) {
    wasm = await (wasm ?? new URL('./gatefold_wasm_bg.wasm', import.meta.url));
    if (typeof wasm === 'string' || wasm instanceof URL) wasm = await readFile(wasm);
    if (typeof Response !== 'undefined' && wasm instanceof Response) wasm = new Uint8Array(await wasm.arrayBuffer());
    if (!(wasm instanceof WebAssembly.Module)) {
        const bytes = new Uint8Array(ArrayBuffer.isView(wasm) ? wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength) : wasm);
        if (bytes[0] === 0x3c) throw failure('file', 'gatefold_wasm_bg.wasm: expected WebAssembly, got a page of HTML; is the address right?');
        if (String(bytes.slice(0, 4)) !== '0,97,115,109') throw failure('file', 'gatefold_wasm_bg.wasm: expected WebAssembly, got another file');
        wasm = await WebAssembly.compile(bytes);
    }
    await initWasm({ module_or_path: wasm });
    isReady = true;
}

/** For an AudioWorklet, which cannot fetch: a compiled module from the page. */
export function initSync(module) {
    initWasmSync({ module });
    isReady = true;
    ready = Promise.resolve();
}

function check() {
    if (!isReady) throw failure('option', 'gatefold: expected `await init()` before the first call');
}

export class Network {
    #info = null;
    constructor(raw) { this.raw = raw; }

    /** Reads a file by address, `File`, `Blob` or bytes; its content says its format. */
    static async load(source, options = {}) {
        await init();
        let name = options.name ?? 'network';
        if (typeof source === 'string' || source instanceof URL) {
            name = options.name ?? String(source).split('/').pop();
            source = await readFile(source, options.onProgress);
        } else if (typeof Blob !== 'undefined' && source instanceof Blob) {
            name = options.name ?? source.name ?? name;
            source = await source.arrayBuffer();
        }
        return Network.fromBytes(source, name);
    }

    static fromBytes(bytes, name = 'network') {
        check();
        if (bytes instanceof ArrayBuffer) bytes = new Uint8Array(bytes);
        if (!(bytes instanceof Uint8Array)) throw failure('option', `${name}: expected an address, a File or bytes`);
        return new Network(WasmNetwork.fromBytes(name, bytes));
    }

    /** Random weights for a description, as the metadata of a safetensors file has it. */
    static initialized(spec, { init = 'PyTorch', seed = 0 } = {}) {
        check();
        return new Network(WasmNetwork.initialized(JSON.stringify(spec), init, seed));
    }

    get info() { return (this.#info ??= JSON.parse(this.raw.info())); }
    withWeights(format) { return new Network(this.raw.withWeights(format)); }
    toBytes() { return this.raw.toBytes(); }
    dispose() { this.raw.free(); }
}

const hasWebGpu = () => Boolean(globalThis.navigator?.gpu);

export class Session {
    #device = null;
    constructor(raw, network, reason) { Object.assign(this, { raw, network, reason }); }

    static async open(network, options = {}) {
        const { device = 'auto', warm, ...plan } = options;
        check();
        if (!['auto', 'webgpu', 'cpu'].includes(device)) {
            throw failure('option', `device: expected auto, webgpu or cpu, got ${JSON.stringify(device)}`);
        }
        const open = (choice) => WasmSession.open(network.raw, choice, JSON.stringify(plan));
        let raw, reason = null;
        if (device === 'auto' && !hasWebGpu()) {
            reason = 'this browser offers no WebGPU here';
            raw = await open('cpu');
        } else if (device === 'auto') {
            try {
                raw = await open('auto');
            } catch (error) {
                if (!['gpu', 'device-lost', 'no-adapter', 'too-large'].includes(error.kind)) throw error;
                reason = error.message;
                raw = await open('cpu');
            }
        } else {
            raw = await open(device);
        }
        const session = new Session(raw, network, reason);
        if (device === 'auto' && session.device.kind === 'cpu') session.reason ??= 'no hardware GPU was found';
        if (warm) await session.run(...randomInput(network, warm.steps ?? 1, warm.batch ?? 1));
        return session;
    }

    get device() { return (this.#device ??= JSON.parse(this.raw.device())); }

    async run(values, shape, { state } = {}) {
        shape = Uint32Array.from(shape);
        const output = await (state ? this.raw.runFrom(values, shape, state.raw) : this.raw.run(values, shape));
        output.state = new State(output.state, this.network);
        return output;
    }

    /** On the CPU device alone: elsewhere it throws, and names `run`. */
    runSync(values, shape, { state } = {}) {
        shape = Uint32Array.from(shape);
        const output = state ? this.raw.runSyncFrom(values, shape, state.raw) : this.raw.runSync(values, shape);
        output.state = new State(output.state, this.network);
        return output;
    }

    async classify(texts) {
        const many = Array.isArray(texts);
        const answers = JSON.parse(await this.raw.classify(many ? texts : [texts]));
        return many ? answers : answers[0];
    }

    async verify({ steps = 16, batch = 2, seed = 1, reference = this.network } = {}) {
        return JSON.parse(await this.raw.verify(reference.raw, steps, batch, seed));
    }

    plan(steps, batch = 1) { return this.raw.plan(steps, batch) ?? null; }

    /** Times of runs, in milliseconds. */
    async bench({ steps = 100, batch = 1, runs = 10, onProgress } = {}) {
        const input = randomInput(this.network, steps, batch);
        await this.run(...input);
        const times = [];
        for (let run = 1; run <= runs; run++) {
            const start = performance.now();
            const output = await this.run(...input);
            times.push(performance.now() - start);
            output.state.dispose();
            onProgress?.({ run, runs });
            await breathe();
        }
        times.sort((a, b) => a - b);
        return { best: times[0], median: times[times.length >> 1], perStep: times[times.length >> 1] / steps, runs, steps, batch };
    }

    /** Output for the random input of a seed, the same as native gatefold's. */
    async runRandom({ steps = 16, batch = 2, seed = 1 } = {}) {
        const output = await this.raw.runRandom(steps, batch, seed);
        output.state = new State(output.state, this.network);
        return output;
    }

    stream(state = null) { return new Stream(this, state); }
    get fallBacks() { return this.raw.fallBacks(); }
    dispose() { this.raw.free(); }
}

export class State {
    constructor(raw, network) { Object.assign(this, { raw, network }); }
    static fromBytes(bytes, network) { return new State(WasmState.fromBytes(bytes, network.raw), network); }
    toBytes() { return this.raw.toBytes(this.network.raw); }
    numbers() { return this.raw.numbers(); }
    dispose() { this.raw.free(); }
}

/** Timesteps that come one after the other, with the state between them. */
export class Stream {
    #turn = Promise.resolve();
    #session;
    constructor(session, state) { this.#session = session; this.state = state; }

    /** Advances by T timesteps: token ids `[T]`, or vectors `[T, I]` one after the other. Calls are done in their order. */
    feed(values) {
        const done = this.#turn.then(async () => {
            if (!this.#session) throw failure('option', 'stream: expected an open one, got one that was closed');
            const { batchFirst, inputs: [input] } = this.#session.network.info;
            const steps = values.length / (input.kind === 'tokens' ? 1 : input.width);
            if (!Number.isInteger(steps) || steps < 1) {
                throw failure('shape', `stream: expected vectors of ${input.width} numbers, got ${values.length} numbers`);
            }
            const outer = batchFirst ? [1, steps] : [steps, 1];
            const shape = input.kind === 'tokens' ? outer : [...outer, input.width];
            const output = await this.#session.run(values, shape, { state: this.state });
            this.state = output.state;
            return output;
        });
        this.#turn = done.catch(() => {});
        return done;
    }

    /** Goes back to the network's initial state. */
    reset() { this.state = null; }
    /** A second stream from here on. */
    fork() { return new Stream(this.#session, this.state); }
    /** The state as bytes; null before the first timestep. */
    save() { return this.state?.toBytes() ?? null; }
    restore(bytes) { this.state = bytes && State.fromBytes(bytes, this.#session.network); }
    close() { this.#session = null; this.state = null; }
}

export class Dataset {
    constructor(sequences, answers, { width = 0 } = {}) {
        check();
        this.make = () => new WasmDataset(sequences, width, answers);
        this.raw = this.make();
    }
    dispose() { this.raw.free(); }
}

export class Trainer {
    /** `options` are names and values of the crate's `TrainOptions`, such as `{ loss: 'mse', seed: 1 }`. */
    constructor(network, options = {}) {
        check();
        this.raw = new WasmTrainer(network.raw, JSON.stringify(options));
    }

    async fit(train, { valid, onProgress, ...options } = {}) {
        let last = now();
        const told = async (text) => {
            const goesOn = onProgress ? await onProgress(JSON.parse(text)) : true;
            // The page gets a turn at least 60 times a second.
            if (now() - last > 16) { await breathe(); last = now(); }
            return goesOn !== false;
        };
        // The set is handed over, so it is made again.
        return JSON.parse(await this.raw.fit(train.raw, valid?.make(), JSON.stringify(options), told));
    }

    evaluate(set, { batchSize = 32 } = {}) { return JSON.parse(this.raw.evaluate(set.raw, batchSize)); }
    network() { return new Network(this.raw.network()); }
    get steps() { return this.raw.steps(); }
    dispose() { this.raw.free(); }
}

const now = () => globalThis.performance?.now() ?? Date.now();

/** Lets the page do what waits: input, drawing, messages. */
const breathe = () => new Promise((resolve) => { setTimeout(resolve, 0); });

/** Values and shape of a random input, the arguments of `run`. */
export function randomInput(network, steps, batch = 1) {
    const { batchFirst, inputs: [input] } = network.info;
    const outer = batchFirst ? [batch, steps] : [steps, batch];
    if (input.kind === 'tokens') {
        return [Uint32Array.from({ length: steps * batch }, () => Math.floor(Math.random() * input.numEmbeddings)), outer];
    }
    const shape = input.kind === 'row' ? [batch, input.width] : [...outer, input.width];
    return [Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => Math.random() * 2 - 1), shape];
}
