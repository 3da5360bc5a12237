// gatefold in Node: files are read from the disk. `useWebGpu` takes an implementation of WebGPU, such as npm `webgpu`.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { setFileReader } from './gatefold.js';

setFileReader(async (address) => {
    const text = String(address);
    if (/^https?:/.test(text)) {
        const response = await fetch(text);
        if (!response.ok) throw new Error(`${text}: the server answers ${response.status}`);
        return new Uint8Array(await response.arrayBuffer());
    }
    return new Uint8Array(await readFile(text.startsWith('file:') ? fileURLToPath(text) : text));
});

/** Runs on this `GPU` object from now on, and makes it `navigator.gpu`. */
export function useWebGpu(gpu) {
    Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true });
    // wgpu takes a scope with this name for a page.
    globalThis.Window ??= class {};
}

export * from './gatefold.js';
