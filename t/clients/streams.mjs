// The official clients, unmodified, and streams that are late or go wrong:
//
//     node streams.mjs whole|broken|error URL MODEL
//
// "whole": all of it is parsed; "broken": some of it, and then they throw;
// "error": they throw. HYBRID_ID and HYBRID_SECRET are the credential. Prints
// TAP.

import assert from 'node:assert/strict';
import process from 'node:process';
import { Ollama } from 'ollama';
import OpenAI from 'openai';

const [kind, url, model] = process.argv.slice(2);
const { HYBRID_ID: id, HYBRID_SECRET: secret } = process.env;
const messages = [{ role: 'user', content: 'Say hello, please.' }];

const ollama = new Ollama({
    host: url,
    headers: { 'CF-Access-Client-Id': id, 'CF-Access-Client-Secret': secret },
});
const openai = new OpenAI({
    baseURL: `${url}/v1`, apiKey: `${id}:${secret}`, maxRetries: 0,
});

// what has come, and whether the loop has ended as after a whole answer
async function read(start, text) {
    const got = { words: 0, ended: false, error: null, last: null };
    try {
        for await (const part of await start()) {
            got.words += (text(part).match(/word\d+/g) ?? []).length;
            got.last = part;
        }
        got.ended = true;
    } catch (error) {
        got.error = error;
    }
    return got;
}

const streams = {
    'ollama chat': () => read(
        () => ollama.chat({ model, messages, stream: true }),
        (part) => part.message?.content ?? ''),

    'ollama generate': () => read(
        () => ollama.generate({ model, prompt: 'hello', stream: true }),
        (part) => part.response ?? ''),

    'openai chat': () => read(
        () => openai.chat.completions.create(
            { model, messages, stream: true }),
        (part) => part.choices[0]?.delta?.content ?? ''),
};

const whole = {
    'ollama chat': () => ollama.chat({ model, messages }),
    'ollama generate': () => ollama.generate({ model, prompt: 'hello' }),
    'openai chat': () => openai.chat.completions.create({ model, messages }),
};

const steps = {};

for (const [name, stream] of Object.entries(streams)) {
    steps[`${name}, streamed`] = async () => {
        const got = await stream();
        if (kind === 'whole') {
            assert.equal(got.error, null);
            assert.equal(got.words, 52);
            assert.ok(got.last.done
                || got.last.choices[0].finish_reason === 'stop');
            return;
        }
        assert.equal(got.ended, false, 'it looks like a whole answer');
        assert.ok(got.error instanceof Error);
        assert.equal(got.words, kind === 'broken' ? 32 : 0);
    };
}

for (const [name, ask] of Object.entries(kind === 'broken' ? {} : whole)) {
    steps[name] = async () => {
        if (kind === 'error') {
            await assert.rejects(ask());
            return;
        }
        const answer = await ask();
        const text = answer.message?.content ?? answer.response
            ?? answer.choices[0].message.content;
        assert.equal(text.match(/word\d+/g).length, 52);
        const used = answer.eval_count ?? answer.usage.completion_tokens;
        assert.ok(used > 0);
    };
}

const all = Object.entries(steps);
console.log(`1..${all.length}`);

for (const [index, [name, step]] of all.entries()) {
    try {
        await step();
        console.log(`ok ${index + 1} - ${name}`);
    } catch (error) {
        process.exitCode = 1;
        console.log(`not ok ${index + 1} - ${name}`);
        console.log(`${error}`.replace(/^/gm, '# '));
    }
}
