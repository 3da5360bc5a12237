// The worker's end of worker.js.

import * as gatefold from './gatefold.js';

const objects = new Map();
const asked = new Map();
let count = 0;

/** Properties that the page reads without a call. */
const properties = {
    Network: (network) => ({ info: network.info }),
    Session: (session) => ({ device: session.device, reason: session.reason }),
};

function sent(value) {
    const name = ['Network', 'Session', 'State', 'Stream', 'Dataset', 'Trainer'].find((name) => value instanceof gatefold[name]);
    if (name) {
        objects.set(++count, value);
        return { $remote: count, ...properties[name]?.(value) };
    }
    if (value && Object.getPrototypeOf(value) === Object.prototype) {
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, sent(one)]));
    }
    return value;
}

function received(value) {
    if (value?.$remote) return objects.get(value.$remote);
    if (value?.$callback) {
        return (...args) => new Promise((resolve) => {
            asked.set(++count, resolve);
            postMessage({ id: count, callback: value.$callback, args });
        });
    }
    if (value && Object.getPrototypeOf(value) === Object.prototype) {
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, received(one)]));
    }
    return value;
}

async function done({ target, method, args }) {
    args = args.map(received);
    await gatefold.init(method === 'init' ? args[0] : {});
    if (method === 'init') return undefined;
    if (method === 'new') return new gatefold[target](...args);
    const object = typeof target === 'string' ? gatefold[target] : objects.get(target);
    if (!object) throw Object.assign(new Error('expected an object that was not disposed of'), { kind: 'option' });
    if (method === 'dispose' || method === 'close') objects.delete(target);
    const member = object[method];
    return typeof member === 'function' ? member.apply(object, args) : member;
}

onmessage = async ({ data }) => {
    if (data.answer) {
        asked.get(data.answer)(data.value);
        asked.delete(data.answer);
        return;
    }
    try {
        postMessage({ id: data.id, value: sent(await done(data)) });
    } catch (error) {
        const { message, name, kind } = error;
        postMessage({ id: data.id, error: { message, name, kind } });
    }
};
