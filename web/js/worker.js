// gatefold in a worker of its own, so that the page never waits: the same names as gatefold.js, but every method and constructor
// gives a promise. `worker-side.js` is the other end.

let worker = null;
let calls = 0;
const waiting = new Map();
const callbacks = new Map();

function start() {
    worker = new Worker(new URL('./worker-side.js', import.meta.url), { type: 'module', name: 'gatefold' });
    worker.onmessage = ({ data }) => {
        if (data.callback) {
            Promise.resolve(callbacks.get(data.callback)?.(...data.args)).then(
                (value) => worker.postMessage({ answer: data.id, value }),
                () => worker.postMessage({ answer: data.id, value: false }));
            return;
        }
        const { resolve, reject, own } = waiting.get(data.id);
        waiting.delete(data.id);
        own.forEach((id) => callbacks.delete(id));
        if (data.error) reject(Object.assign(new Error(data.error.message), data.error));
        else resolve(received(data.value));
    };
    worker.onerror = (event) => {
        const error = Object.assign(new Error(`worker: ${event.message ?? 'it could not be loaded'}`), { name: 'GatefoldError', kind: 'file' });
        end(error);
    };
}

/** Calls a method there. Functions stay here, and remote objects go as their number. */
function call(target, method, args) {
    if (!worker) start();
    const own = [];
    const sent = (value) => {
        if (typeof value === 'function') {
            callbacks.set(++calls, value);
            own.push(calls);
            return { $callback: calls };
        }
        if (value?.$remote) return { $remote: value.$remote };
        if (value && Object.getPrototypeOf(value) === Object.prototype) {
            return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, sent(one)]));
        }
        return value instanceof URL ? value.href : value;
    };
    const message = { id: ++calls, target, method, args: args.map(sent) };
    return new Promise((resolve, reject) => {
        worker.postMessage(message); // throws for what cannot be copied
        waiting.set(message.id, { resolve, reject, own });
    });
}

/** Objects of the worker become objects whose methods call it. */
function received(value) {
    if (value?.$remote) {
        return new Proxy(value, {
            get: (object, key) => {
                if (key === 'then') return undefined; // it is no promise
                if (key in object || typeof key === 'symbol') return object[key];
                return (...args) => call(object.$remote, key, args);
            },
        });
    }
    if (value && Object.getPrototypeOf(value) === Object.prototype) {
        for (const key of Object.keys(value)) value[key] = received(value[key]);
    }
    return value;
}

const statics = (name, methods) => Object.fromEntries(methods.map((method) => [method, (...args) => call(name, method, args)]));

/** Addresses are taken from the page, not from the worker's own file. */
const absolute = (source) => (typeof source === 'string' ? new URL(source, globalThis.document?.baseURI ?? location.href).href : source);

export const init = (options = {}) => call(null, 'init', [options.wasm ? { wasm: absolute(options.wasm) } : {}]);
export const Network = {
    ...statics('Network', ['fromBytes', 'initialized']),
    load: (source, ...rest) => call('Network', 'load', [absolute(source), ...rest]),
};
export const Session = statics('Session', ['open']);
export const State = statics('State', ['fromBytes']);
export const Dataset = { new: (...args) => call('Dataset', 'new', args) };
export const Trainer = { new: (...args) => call('Trainer', 'new', args) };

/** Ends the worker. Its objects are gone, and calls that wait fail; the next call starts another. */
export function close() {
    end(Object.assign(new Error('worker: it was closed'), { name: 'GatefoldError', kind: 'closed' }));
}

function end(error) {
    worker?.terminate();
    worker = null;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
    callbacks.clear();
}
