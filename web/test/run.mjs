// Tests of the npm package in headless Chromium and in Node: node run.mjs [chromium|node] ...
// `web/build.sh` has built web/package before; see test.sh.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };
/** Everything is served as any static server would: no COOP, no COEP. */
const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    if (path === '/empty') {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>gatefold</title>');
        return;
    }
    try {
        const body = await readFile(join(root, path));
        response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' }).end(body);
    } catch {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>There is no such page.');
    }
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const origin = `http://127.0.0.1:${server.address().port}`;

/** For devices and places that differ little from one that has all networks. */
const FEW = ['lstm 64', 'gru 128', 'tokens'];
const SWIFTSHADER = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--ignore-gpu-blocklist'];
const failures = [];
let checks = 0;
const start = Date.now();
const say = (text) => console.log(`${((Date.now() - start) / 1000).toFixed(1).padStart(6)} s  ${text}`);
const check = (good, what) => { if (good) checks++; else { failures.push(what); say(`FAILED ${what}`); } };
const take = (what, { passed = 0, failed, ...more }) => {
    checks += passed;
    failed.forEach((one) => check(false, one));
    say(`${what}: ${passed} passed, ${failed.length} failed ${JSON.stringify(more)}`);
};

/** Runs `work` in a page of its own, whose errors in the console count as failures. */
async function page(browser, what, work, argument, script) {
    const tab = await browser.newPage();
    const problems = [];
    tab.on('console', (message) => { if (message.type() === 'error') problems.push(message.text()); });
    tab.on('pageerror', (error) => problems.push(error.message));
    if (script) await tab.addInitScript(script);
    await tab.goto(`${origin}/empty`);
    let result;
    try {
        result = await tab.evaluate(work, argument);
    } catch (error) {
        result = { failed: [error.message] };
    }
    if (Array.isArray(result?.failed)) take(what, result);
    check(problems.length === 0, `${what}: console: ${problems.join(' | ')}`);
    await tab.close();
    return result;
}

/** In a page: everything of the battery on one device. `entry` is the module that is imported. */
async function everything({ entry, device, strategies, trains, only }) {
    const gatefold = await import(`/web/package/${entry}`);
    const tests = await import('/web/test/battery.js');
    const json = async (path) => (await fetch(path)).json();
    const networks = (await json('/tests/goldens/web/networks.json')).filter(({ name }) => !only || only.includes(name));
    const outputs = await json('/tests/goldens/web/outputs.json');
    const texts = await json('/models/sentiment/expected_texts.json');
    const bytes = new Uint8Array(await (await fetch('/models/sentiment/sentiment.safetensors')).arrayBuffer());
    await gatefold.init();
    const ran = await tests.battery(gatefold, { networks, outputs, device, strategies });
    const felt = await tests.sentiment(gatefold, { bytes, texts, device });
    const streamed = await tests.streams(gatefold, { device });
    const trained = trains ? await tests.training(gatefold) : { passed: 0, failed: [] };
    const controls = await tests.controls(gatefold, { networks, outputs, device });
    return {
        passed: ran.passed + felt.passed + streamed.passed + trained.passed + 2 - controls.length,
        failed: [...ran.failed, ...felt.failed, ...streamed.failed, ...trained.failed, ...controls],
        sentiment: felt.far, stream: streamed.far, loss: [trained.before, trained.after],
        isolated: crossOriginIsolated,
    };
}

/** A blocking call on a GPU is an error, and the instance lives; also a lost device, and bad input. */
async function blocking() {
    const { init, Network, Session } = await import('/web/package/gatefold.js');
    await init();
    const failed = [];
    const layers = [{ type: 'lstm', name: 'lstm', input_size: 4, hidden_size: 64 }];
    const network = Network.initialized({ format: 1, layers }, { seed: 1 });
    const session = await Session.open(network, { device: 'webgpu' });
    const input = [new Float32Array(16).fill(0.5), [4, 1, 4]];
    const thrown = (work) => { try { work(); return null; } catch (error) { return error; } };
    const error = thrown(() => session.runSync(...input));
    if (!/Session::run_async/.test(error?.message)) failed.push(`a blocking call gave ${error}`);
    const first = (await session.run(...input)).values;
    const cpu = await Session.open(network, { device: 'cpu' });
    const same = cpu.runSync(...input).values;
    if (!first.every((x, at) => Math.abs(x - same[at]) < 2e-6)) failed.push('the instance gives other numbers after it');
    const shape = await session.run(new Float32Array(5), [5, 1, 1]).then(() => null, (error) => error);
    if (shape?.kind !== 'shape') failed.push(`an input of another width gave ${shape}`);
    const page = await Network.load('/nowhere.safetensors').then(() => null, (error) => error);
    if (!/HTML/.test(page?.message)) failed.push(`a page in place of a network gave ${page}`);
    const noise = thrown(() => Network.fromBytes(new Uint8Array(100).fill(7), 'noise'));
    if (noise?.kind !== 'file') failed.push(`noise in place of a network gave ${noise}`);
    const odd = await Session.open(network, { device: 'quantum' }).then(() => null, (error) => error);
    if (odd?.kind !== 'option') failed.push(`an unknown device gave ${odd}`);
    return { passed: 6 - failed.length, failed, error: error?.message };
}

/** A page without WebGPU. */
async function without() {
    const { Network, Session } = await import('/web/package/gatefold.js');
    const failed = [];
    const network = await Network.load('/models/sentiment/sentiment.safetensors');
    const session = await Session.open(network);
    if (session.device.kind !== 'cpu' || !/WebGPU/.test(session.reason)) failed.push(`auto gave ${session.device.text}, ${session.reason}`);
    if ((await session.classify('a warm, funny film')).label !== 'positive') failed.push('the label is wrong');
    const error = await Session.open(network, { device: 'webgpu' }).then(() => null, (error) => error);
    if (error?.kind !== 'no-adapter') failed.push(`webgpu gave ${error}`);
    return { passed: 3 - failed.length, failed, reason: session.reason, error: error?.message };
}

/** The wasm is not where it is looked for. */
async function lost() {
    const { init, Network } = await import('/web/package/gatefold.js');
    const failed = [];
    const early = (() => { try { return Network.fromBytes(new Uint8Array(1)); } catch (error) { return error; } })();
    if (!/init/.test(early.message)) failed.push(`a call before init gave ${early}`);
    const error = await init({ wasm: '/nowhere.wasm' }).then(() => null, (error) => error);
    if (!/HTML/.test(error?.message)) failed.push(`a page in place of the wasm gave ${error}`);
    await init();
    return { passed: 2 - failed.length, failed, error: error?.message };
}

/** A frame after the other in an AudioWorklet, on the CPU device. */
async function worklet() {
    const context = new OfflineAudioContext(1, 128 * 40, 16000);
    await context.audioWorklet.addModule('/web/test/processor.js');
    const module = await WebAssembly.compile(await (await fetch('/web/package/gatefold_wasm_bg.wasm')).arrayBuffer());
    const layers = [{ type: 'lstm', name: 'lstm', input_size: 128, hidden_size: 128 }];
    const node = new AudioWorkletNode(context, 'frames', { processorOptions: { module, layers } });
    const source = new ConstantSourceNode(context, { offset: 0.25 });
    source.connect(node).connect(context.destination);
    source.start();
    const said = new Promise((resolve) => { node.port.onmessage = ({ data }) => resolve(data); });
    const rendered = (await context.startRendering()).getChannelData(0);
    const { init, Network, Session } = await import('/web/package/gatefold.js');
    await init();
    const session = await Session.open(Network.initialized({ format: 1, layers }, { seed: 1 }), { device: 'cpu' });
    const stream = session.stream();
    const failed = [];
    const { frames, error } = await said;
    if (error) failed.push(`worklet: ${error}`);
    // The network may be ready some frames after the first.
    let expected;
    for (let frame = 0; frame < frames; frame++) expected = (await stream.feed(new Float32Array(128).fill(0.25))).values;
    const last = rendered.slice(-128);
    const far = expected ? expected.reduce((far, x, at) => Math.max(far, Math.abs(x - last[at])), 0) : Infinity;
    if (!(far < 1e-6) || frames < 5) failed.push(`worklet: ${far} from the page after ${frames} frames`);
    return { passed: 1, failed, far, frames };
}

async function inChromium() {
    const executablePath = process.env.GATEFOLD_CHROMIUM ?? '/usr/bin/chromium';
    const launch = (args) => chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', ...args] });
    const cpu = await launch([]);
    await page(cpu, 'wasm, page', everything, { entry: 'gatefold.js', device: 'cpu', trains: true });
    await page(cpu, 'no WebGPU', without, null, () => { Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined }); });
    await page(cpu, 'files that are lost', lost);
    await page(cpu, 'AudioWorklet', worklet);
    await cpu.close();
    const gpu = await launch(SWIFTSHADER);
    const adapter = await page(gpu, 'adapter', async () => {
        const info = (await navigator.gpu?.requestAdapter())?.info;
        return info && `${info.vendor} ${info.architecture}`;
    });
    check(/swiftshader/i.test(adapter), `WebGPU on SwiftShader: the adapter is ${JSON.stringify(adapter)}`);
    await page(gpu, 'blocking call', blocking);
    await page(gpu, 'WebGPU, page', everything, { entry: 'gatefold.js', device: 'webgpu', strategies: [undefined, 'sequence', 'tile'] });
    await page(gpu, 'WebGPU, worker', everything, { entry: 'worker.js', device: 'webgpu', trains: true, only: FEW });
    await gpu.close();
}

async function inNode() {
    const gatefold = await import('../package/node.js');
    const tests = await import('./battery.js');
    const json = async (path) => JSON.parse(await readFile(join(root, path), 'utf8'));
    const networks = await json('tests/goldens/web/networks.json');
    const outputs = await json('tests/goldens/web/outputs.json');
    await gatefold.init();
    take('wasm, Node', await tests.battery(gatefold, { networks, outputs, device: 'cpu' }));
    const bytes = await readFile(join(root, 'models/sentiment/sentiment.safetensors'));
    const texts = await json('models/sentiment/expected_texts.json');
    take('sentiment, Node', await tests.sentiment(gatefold, { bytes: new Uint8Array(bytes), texts, device: 'cpu' }));
    const { create, globals } = await import('webgpu');
    Object.assign(globalThis, globals);
    gatefold.useWebGpu(create([]));
    const few = networks.filter(({ name }) => FEW.includes(name));
    take('WebGPU (Dawn), Node', await tests.battery(gatefold, { networks: few, outputs, device: 'webgpu' }));
}

const asked = process.argv.slice(2);
for (const [name, run] of Object.entries({ node: inNode, chromium: inChromium })) {
    if (asked.length && !asked.includes(name)) continue;
    try {
        await run();
    } catch (error) {
        check(false, `${name}: ${error.stack}`);
    }
}
server.close();
if (failures.length) {
    say(`${checks} checks passed, ${failures.length} failed`);
    process.exit(1);
}
console.log(`== ${checks} checks of the npm package passed`);
process.exit(0);
