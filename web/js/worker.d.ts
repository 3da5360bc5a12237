/**
 * The same as `gatefold-rnn`, in a worker: the page is never blocked. Every method gives a promise, and objects are made by
 * `await Dataset.new(...)` and `await Trainer.new(...)`.
 */

import type * as here from './gatefold.js';

/** Methods, and the properties that are copied when an object is made; other properties stay in the worker. */
type Remote<T> = { [K in keyof T as T[K] extends (...args: never[]) => unknown ? K : K extends 'info' | 'device' | 'reason' ? K : never]: T[K] extends (...args: infer A) => infer R
    ? (...args: { [I in keyof A]: A[I] | Sent<A[I]> }) => Promise<Got<Awaited<R>>>
    : T[K] };
type Sent<T> = T extends here.Network | here.State | here.Dataset ? Remote<T> : T extends object ? { [K in keyof T]: Sent<T[K]> } : T;
type Got<T> = T extends here.Network | here.Session | here.State | here.Stream | here.Dataset | here.Trainer ? Remote<T>
    : T extends here.Output ? Omit<here.Output, 'state'> & { state: Remote<here.State> } : T;

export function init(options?: { wasm?: string }): Promise<void>;
export const Network: {
    load(...args: Parameters<typeof here.Network.load>): Promise<Remote<here.Network>>;
    fromBytes(...args: Parameters<typeof here.Network.fromBytes>): Promise<Remote<here.Network>>;
    initialized(...args: Parameters<typeof here.Network.initialized>): Promise<Remote<here.Network>>;
};
export const Session: { open(network: Remote<here.Network>, options?: here.SessionOptions): Promise<Remote<here.Session>> };
export const State: { fromBytes(bytes: Uint8Array, network: Remote<here.Network>): Promise<Remote<here.State>> };
export const Dataset: { new(...args: ConstructorParameters<typeof here.Dataset>): Promise<Remote<here.Dataset>> };
export const Trainer: { new(network: Remote<here.Network>, options?: Record<string, unknown>): Promise<Remote<here.Trainer>> };
/** Ends the worker. Its objects are gone, and calls that wait fail; the next call starts another. */
export function close(): void;
