// What is checked on every device, the same in a page, in a worker and in Node. Gives a list of lines, `ok ...` or `FAILED ...`.

/** Numbers from the native CPU; f32 sums in another order differ by less. */
const GOLDEN = 5e-6;
const SEED = 1;

export async function battery(gatefold, { networks, outputs, device, strategies = [undefined] }, told = () => {}) {
    const { Network, Session } = gatefold;
    let passed = 0;
    const failed = [];
    const check = (good, what) => { if (good) passed++; else failed.push(what); };
    for (const { name, layers, steps, batch } of networks) {
        const network = await Network.initialized({ format: 1, layers }, { seed: SEED });
        for (const weights of ['f32', 'f16', 'int8']) {
            const own = weights === 'f32' ? network : await network.withWeights(weights);
            // How weights are stored changes the kernels of every strategy alike; natively all pairs are tested.
            for (const strategy of weights === 'f32' ? strategies : [undefined]) {
                const what = `${name}, ${weights}, ${strategy ?? 'auto'} on ${device}`;
                let session;
                try {
                    session = await Session.open(own, strategy ? { device, strategy } : { device });
                    if (device === 'webgpu') check(session.device.kind === 'software', `${what}: on ${session.device.text}`);
                    const { passed, checks } = await session.verify({ steps, batch, seed: SEED });
                    check(passed, `${what}: ${JSON.stringify(checks.filter(({ verdict }) => verdict === 'failed'))}`);
                    if (weights === 'f32') {
                        const { values } = await session.runRandom({ steps, batch, seed: SEED });
                        const far = distance(values, outputs[name]);
                        check(far < GOLDEN, `${what}: ${far} from the native CPU`);
                    }
                } catch (error) {
                    // The plan refuses a strategy by name where a network cannot have it.
                    const refused = strategy && error.kind === 'unsupported' && !/waits for a GPU/.test(error.message);
                    if (!refused) failed.push(`${what}: ${error.message}`);
                } finally {
                    await session?.dispose();
                }
            }
        }
        told(name);
    }
    return { passed, failed };
}

/** Largest difference between the last numbers of an output and the stored ones. */
export function distance(values, stored) {
    const last = values.slice(values.length - stored.length);
    return stored.reduce((far, number, at) => Math.max(far, Math.abs(number - last[at])), values.length < stored.length ? Infinity : 0);
}

/** Checks that have to fail, or the battery checks nothing. */
export async function controls(gatefold, { networks, outputs, device }) {
    const { Network, Session } = gatefold;
    const failed = [];
    const { name, layers } = networks[0];
    const network = await Network.initialized({ format: 1, layers }, { seed: SEED });
    const other = await Network.initialized({ format: 1, layers }, { seed: SEED + 1 });
    const session = await Session.open(network, { device });
    if ((await session.verify({ reference: other })).passed) failed.push('verify against other weights passed');
    const { values } = await session.runRandom({ steps: 12, batch: 2, seed: SEED });
    const wrong = outputs[name].map((number, at) => (at === 3 ? number + 1e-4 : number));
    if (distance(values, wrong) < GOLDEN) failed.push('a wrong golden passed');
    await session.dispose();
    return failed;
}

/** Texts with the probabilities that Keras gives. */
export async function sentiment({ Network, Session }, { bytes, texts, device }) {
    const failed = [];
    // Texts without a word have no answer; long ones are short texts many times (`[text, times]`).
    texts = texts.filter(({ ids }) => ids.length).map(({ text, ...rest }) => (
        { ...rest, text: typeof text === 'string' ? text : Array(text.repeat[1]).fill(text.repeat[0]).join(' ') }));
    const network = await Network.fromBytes(bytes, 'sentiment.safetensors');
    const session = await Session.open(network, { device });
    const answers = await session.classify(texts.map(({ text }) => text));
    let far = 0;
    answers.forEach(({ probabilities }, at) => probabilities.forEach((p, i) => { far = Math.max(far, Math.abs(p - texts[at].probabilities[i])); }));
    const empty = await session.classify(['good', ' ']).then(() => null, (error) => error);
    if (empty?.kind !== 'input') failed.push(`a text without a word gave ${empty}`);
    if (!(far < 2e-5) || answers.length !== texts.length) failed.push(`sentiment on ${device}: ${far} from Keras`);
    return { passed: texts.length, failed, far };
}

/** A stream piece by piece gives what a whole run gives; its state goes on from bytes; forks go apart. */
export async function streams({ Network, Session }, { device }) {
    const failed = [];
    const layers = [{ type: 'lstm', name: 'lstm', input_size: 4, hidden_size: 128 }];
    const network = await Network.initialized({ format: 1, layers }, { seed: SEED });
    const session = await Session.open(network, { device });
    const frames = Float32Array.from({ length: 62 * 4 }, (_, at) => Math.sin(at));
    const whole = (await session.run(frames, [62, 1, 4])).values;
    const stream = await session.stream();
    const pieces = [];
    for (let at = 0; at < 62; at++) {
        const { values } = await stream.feed(frames.slice(at * 4, at * 4 + 4));
        pieces.push(...values);
        if (at === 30) {
            const saved = await stream.save();
            await stream.reset();
            await stream.restore(saved);
        }
    }
    const far = distance(whole, pieces);
    if (!(far < 1e-6) || pieces.length !== whole.length) failed.push(`stream on ${device}: ${far} from a whole run`);
    const fork = await stream.fork();
    const [a, b] = [await stream.feed(frames.slice(0, 4)), await fork.feed(frames.slice(4, 8))];
    if (distance(a.values, [...b.values]) < 1e-4) failed.push(`streams on ${device}: a fork is not its own`);
    await stream.close();
    const closed = await stream.feed(frames.slice(0, 4)).then(() => null, (error) => error);
    if (closed?.kind !== 'option') failed.push(`streams on ${device}: a closed stream was fed`);
    return { passed: 3, failed, far };
}

/** A small network learns whether its numbers sum up to more than 0. */
export async function training(gatefold) {
    const { Network, Session } = gatefold;
    const make = (Class, ...args) => (Class.new ? Class.new(...args) : new Class(...args));
    const failed = [];
    const layers = [
        { type: 'lstm', name: 'lstm', input_size: 1, hidden_size: 8, output: 'last' },
        { type: 'dense', name: 'dense', in_features: 8, out_features: 2 }, { type: 'softmax' }];
    const network = await Network.initialized({ format: 1, layers }, { seed: SEED });
    const sequences = Array.from({ length: 64 }, (_, row) => Float32Array.from({ length: 3 + (row % 5) }, (_, at) => Math.sin(row * 7.3 + at * 2.1)));
    const answers = Uint32Array.from(sequences, (row) => Number(row.reduce((a, b) => a + b) > 0));
    const set = await make(gatefold.Dataset, sequences, answers, { width: 1 });
    const trainer = await make(gatefold.Trainer, network, { seed: 3 });
    const before = await trainer.evaluate(set);
    let steps = 0;
    const fitted = await trainer.fit(set, { batchSize: 8, epochs: 40, onProgress: ({ kind }) => { steps += Number(kind === 'step'); } });
    const after = await trainer.evaluate(set);
    if (fitted.epochs !== 40 || steps !== 320) failed.push(`training: ${fitted.epochs} epochs and ${steps} steps`);
    if (!(after.loss < 0.8 * before.loss)) failed.push(`training: the loss went from ${before.loss} to ${after.loss}`);
    const stopped = await trainer.fit(set, { batchSize: 8, epochs: 5, onProgress: () => false });
    if (stopped.epochs !== 0) failed.push('training: it was not stopped');
    const trained = await trainer.network();
    const session = await Session.open(trained, { device: 'cpu' });
    const { values } = await session.run(sequences[0], [3, 1, 1]);
    if ((values[1] > values[0]) !== Boolean(answers[0])) failed.push('training: the trained network answers wrongly');
    return { passed: 4, failed, before: before.loss, after: after.loss };
}
