// gatefold in an AudioWorklet, on the CPU device: `initSync(module)` with a `WebAssembly.Module` from `processorOptions`, then
// `Session.open(network, { device: 'cpu' })` and `session.runSync`.

import './polyfill.js';

export * from './gatefold.js';
