/**
 * Recurrent networks in web pages and Node, on the CPU (WebAssembly, one thread) and on WebGPU.
 *
 * T timesteps, B batch rows, I input width, N output width. Arrays are row-major: `[T, B, I]`, or `[B, T, I]` for networks
 * with `info.batchFirst`. Errors are {@link GatefoldError}.
 */

/** What went wrong: `message` is one line. */
export interface GatefoldError extends Error {
    name: 'GatefoldError';
    kind: 'device-lost' | 'no-adapter' | 'gpu' | 'unsupported' | 'too-large' | 'shape' | 'option' | 'input' | 'diverged' | 'file';
}

export interface InitOptions {
    /** The WebAssembly file, where it does not lie beside the JavaScript: its address, a response, its bytes or a module. */
    wasm?: string | URL | Response | BufferSource | WebAssembly.Module | Promise<Response | BufferSource>;
}

/** Loads the WebAssembly file. Later calls return the first call's promise. */
export function init(options?: InitOptions): Promise<void>;
/** As {@link init}, from a compiled module: for an AudioWorklet. */
export function initSync(module: WebAssembly.Module): void;
/** The version of gatefold. */
export function version(): string;
/** Sets how `init` and `Network.load` read files, where there is no `fetch`. */
export function setFileReader(reader: (address: string | URL, onProgress?: (progress: LoadProgress) => void) => Promise<Uint8Array>): void;

export interface LoadProgress {
    /** Bytes so far. */
    loaded: number;
    /** Bytes of the file; null where the server does not say. */
    total: number | null;
}

export interface NetworkInfo {
    /** Layers and labels, as the metadata of a safetensors file has them. */
    spec: { layers: Array<{ type: string; name?: string; [option: string]: unknown }>; [key: string]: unknown };
    parameters: number;
    inputs: Array<{ name: string; kind: 'sequence' | 'tokens' | 'row'; width: number; numEmbeddings: number | null }>;
    outputSize: number;
    /** Whether the output has a time dimension. */
    outputIsSequence: boolean;
    batchFirst: boolean;
    labels: string[];
    /** Steps of the computation, in their order. */
    stages: string[];
}

/** Layers and weights. */
export class Network {
    private constructor();
    /**
     * Reads a safetensors, Keras (`.keras`, `.h5`), ONNX or amplifier file; its content says its format. Loads the WebAssembly
     * file first if that has not been done.
     */
    static load(source: string | URL | Blob | ArrayBuffer | Uint8Array, options?: { name?: string; onProgress?: (progress: LoadProgress) => void }): Promise<Network>;
    /** As {@link load}, from bytes. `name` is used in errors. */
    static fromBytes(bytes: ArrayBuffer | Uint8Array, name?: string): Network;
    /** Random weights for a description. The same seed gives the same weights, also in the Rust crate. */
    static initialized(spec: object, options?: { init?: 'PyTorch' | 'Keras'; seed?: number }): Network;
    readonly info: NetworkInfo;
    /** The same network with other weights: half or a quarter of the size. */
    withWeights(format: 'f32' | 'f16' | 'int8'): Network;
    /** A safetensors file. */
    toBytes(): Uint8Array;
    /** Frees its memory now; else it is freed when JavaScript collects the object. */
    dispose(): void;
}

export interface SessionOptions {
    /** `auto` (the default) is a hardware GPU through WebGPU, else the CPU. */
    device?: 'auto' | 'webgpu' | 'cpu';
    /** Runs once with these sizes, so that kernels are compiled before the first real run. */
    warm?: { steps?: number; batch?: number };
    /** How recurrences are run on a GPU. Without it the plan chooses. */
    strategy?: 'step' | 'tile' | 'sequence' | 'wavefront' | 'resident';
    /** In which numbers products are taken on a GPU. */
    arithmetic?: 'f32' | 'f16';
}

export interface Tensor { values: Float32Array; shape: number[] }

export interface Output extends Tensor {
    /** The network's other outputs by name. */
    others: Record<string, Tensor>;
    /** The state after the last timestep, for the next run. */
    state: State;
    /** From the call to the answer in memory. */
    milliseconds: number;
}

export interface Prediction { label: string; probability: number; probabilities: number[] }

export interface Verification {
    passed: boolean;
    device: string;
    steps: number;
    batch: number;
    /** Every stage's output, then the states. `maxError` is the largest difference from the f64 reference. */
    checks: Array<{ label: string; shape: number[]; maxError: number; allowed: string; verdict: 'within tolerance' | 'as f32' | 'failed' }>;
}

/** A network on a device. */
export class Session {
    private constructor();
    static open(network: Network, options?: SessionOptions): Promise<Session>;
    readonly device: { name: string; backend: string; kind: string; text: string };
    /** Why `auto` took the CPU; null where it did not. */
    readonly reason: string | null;
    readonly network: Network;
    /** Runs the network: token ids `[T, B]`, vectors `[T, B, I]`, or `[B, I]` for networks without a time axis. */
    run(values: Float32Array | Uint32Array, shape: number[], options?: { state?: State }): Promise<Output>;
    /** As {@link run}, at once. On a GPU it throws: nothing may wait for one in a page. */
    runSync(values: Float32Array | Uint32Array, shape: number[], options?: { state?: State }): Output;
    /** Labels of texts, for networks with a vocabulary and labels. */
    classify(text: string): Promise<Prediction>;
    classify(texts: string[]): Promise<Prediction[]>;
    /** Compares the device with the f64 reference on random input, stage by stage. */
    verify(options?: { steps?: number; batch?: number; seed?: number; reference?: Network }): Promise<Verification>;
    /** What a run does on a GPU, as text; null on the CPU. */
    plan(steps: number, batch?: number): string | null;
    /** Times of runs on random input, in milliseconds. */
    bench(options?: { steps?: number; batch?: number; runs?: number; onProgress?: (progress: { run: number; runs: number }) => void }):
        Promise<{ best: number; median: number; perStep: number; runs: number; steps: number; batch: number }>;
    /** The output for the random input of a seed, the same as the Rust crate's `RandomInput`. */
    runRandom(options?: { steps?: number; batch?: number; seed?: number }): Promise<Output>;
    /** A stream from a state, or from the network's initial one. */
    stream(state?: State | null): Stream;
    /** Runs that were repeated step by step because workgroups of the GPU did not run at the same time. */
    readonly fallBacks: number;
    dispose(): void;
}

/** What a recurrent network remembers. It does not change. */
export class State {
    private constructor();
    static fromBytes(bytes: Uint8Array, network: Network): State;
    /** A safetensors file. */
    toBytes(): Uint8Array;
    /** All its numbers, layer after layer. */
    numbers(): Float32Array;
    dispose(): void;
}

/** Timesteps of one sequence that come piece by piece; the state is kept between them. */
export class Stream {
    private constructor();
    /** Advances by T timesteps: token ids `[T]` or vectors `[T, I]`. Calls are done in their order. */
    feed(values: Float32Array | Uint32Array): Promise<Output>;
    readonly state: State | null;
    /** Goes back to the network's initial state. */
    reset(): void;
    /** A second stream that goes on from here. */
    fork(): Stream;
    /** The state as bytes; null before the first timestep. */
    save(): Uint8Array | null;
    restore(bytes: Uint8Array | null): void;
    close(): void;
}

/** Sequences with their answers. */
export class Dataset {
    /**
     * @param sequences token ids (`Uint32Array`), or vectors `[T, I]` (`Float32Array`) with `width` I.
     * @param answers a class for each sequence, or for each sequence the classes of its steps or the numbers of the output.
     */
    constructor(sequences: Uint32Array[] | Float32Array[], answers: Uint32Array | Uint32Array[] | Float32Array[], options?: { width?: number });
    dispose(): void;
}

export interface Totals { loss: number; accuracy: number }

export type FitProgress = Totals & { epoch: number } & (
    | { kind: 'step'; batch: number; batches: number; valid: null }
    | { kind: 'epoch'; batch: null; batches: null; valid: Totals | null });

/** Trains a network, on the CPU device. Between steps the page has its turn. */
export class Trainer {
    /** `options` are fields of the crate's `TrainOptions` with their names there. The defaults are cross-entropy and PyTorch's Adam. */
    constructor(network: Network, options?: Record<string, unknown>);
    /** Trains. `onProgress` is called after every step and epoch; `false` stops. */
    fit(train: Dataset, options: {
        batchSize: number; epochs?: number; patience?: number; valid?: Dataset;
        onProgress?: (progress: FitProgress) => void | boolean | Promise<void | boolean>;
    }): Promise<{ epochs: number; bestEpoch: number; valid: Totals | null; skipped: number }>;
    evaluate(set: Dataset, options?: { batchSize?: number }): Totals;
    /** The network as it is now. */
    network(): Network;
    readonly steps: number;
    dispose(): void;
}

/** The arguments of {@link Session.run} for a random input. */
export function randomInput(network: Network, steps: number, batch?: number): [Float32Array | Uint32Array, number[]];

/** In Node alone: runs on this `GPU` object, such as npm `webgpu` gives, and makes it `navigator.gpu`. */
export function useWebGpu(gpu: object): void;
