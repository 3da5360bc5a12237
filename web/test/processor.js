// Runs every frame of 128 samples through an LSTM.

import { initSync, Network, Session } from '/web/package/worklet.js';

registerProcessor('frames', class extends AudioWorkletProcessor {
    constructor({ processorOptions: { module, layers } }) {
        super();
        this.frames = 0;
        try {
            initSync(module);
            const network = Network.initialized({ format: 1, layers }, { seed: 1 });
            this.opened = Session.open(network, { device: 'cpu' }).then((session) => { this.session = session; },
                (error) => { this.port.postMessage({ frames: 0, error: error.message }); });
        } catch (error) {
            this.port.postMessage({ frames: 0, error: `${error.message} ${error.stack}` });
        }
        this.count = 0;
    }

    process([[samples]], [[output]]) {
        this.count++;
        if (this.session && samples?.length === 128) {
            try {
                const { values, state } = this.session.runSync(samples, [1, 1, 128], { state: this.state });
                this.state = state;
                this.frames++;
                output.set(values);
            } catch (error) {
                this.port.postMessage({ frames: this.frames, error: error.message });
            }
        }
        if (this.count === 40) this.port.postMessage({ frames: this.frames });
        return true;
    }
});
