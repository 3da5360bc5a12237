// An AudioWorklet has no TextDecoder and no TextEncoder, which wasm-bindgen's JavaScript makes when it is loaded. UTF-8 alone.

globalThis.TextDecoder ??= class {
    decode(bytes) {
        if (!bytes) return '';
        let text = '';
        for (let at = 0; at < bytes.length;) {
            const first = bytes[at++];
            const more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
            let code = more ? first & (0x3f >> more) : first;
            for (let i = 0; i < more; i++) code = (code << 6) | (bytes[at++] & 0x3f);
            text += String.fromCodePoint(code);
        }
        return text;
    }
};

globalThis.TextEncoder ??= class {
    encode(text) {
        const bytes = [];
        for (const character of text) {
            const code = character.codePointAt(0);
            if (code < 0x80) { bytes.push(code); continue; }
            const more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
            bytes.push(((0xf00 >> (more + 1)) & 0xff) | (code >> (6 * more)));
            for (let i = more - 1; i >= 0; i--) bytes.push(0x80 | ((code >> (6 * i)) & 0x3f));
        }
        return new Uint8Array(bytes);
    }
    encodeInto(text, into) {
        const bytes = this.encode(text);
        into.set(bytes);
        return { read: text.length, written: bytes.length };
    }
};
