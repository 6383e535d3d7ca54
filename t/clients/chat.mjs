// The official clients, unmodified, against a gateway (or an Ollama machine):
//
//     node chat.mjs --url https://127.0.0.1:8443 --ca ca.pem
//          --model mistral:7b --embed-model bge-m3
//
// Each option is also read from the environment (HYBRID_URL, HYBRID_ID,
// HYBRID_SECRET, HYBRID_CA, HYBRID_MODEL, ...), which is the place for the
// secret. Prints TAP; with --denied-model and a secret, refusals are tried too.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const names = ['url', 'id', 'secret', 'ca', 'model', 'embed-model',
    'denied-model'];

const { values: given } = parseArgs({
    options: Object.fromEntries(names.map((name) =>
        [name, { type: 'string' }])),
});

function option(name, otherwise) {
    const variable = 'HYBRID_' + name.toUpperCase().replace('-', '_');
    return given[name] ?? process.env[variable] ?? otherwise;
}

const ca = option('ca');

if (ca && process.env.NODE_EXTRA_CA_CERTS !== ca) {
    // node reads this variable at its start only
    const { status } = spawnSync(process.execPath,
        [fileURLToPath(import.meta.url), ...process.argv.slice(2)],
        { stdio: 'inherit', env: { ...process.env, NODE_EXTRA_CA_CERTS: ca } });
    process.exit(status ?? 1);
}

const { Ollama } = await import('ollama');
const { default: OpenAI } = await import('openai');

const url = option('url', 'http://127.0.0.1:8080');
const id = option('id');
const secret = option('secret');
const model = option('model', 'mistral:7b');
const embedModel = option('embed-model', 'bge-m3');
const denied = option('denied-model');
const messages = [{ role: 'user', content: 'Say hello, please.' }];

function ollamaClient(withSecret = secret) {
    return new Ollama({
        host: url,
        headers: id ? {
            'CF-Access-Client-Id': id,
            'CF-Access-Client-Secret': withSecret,
        } : {},
    });
}

function openaiClient(withSecret = secret) {
    return new OpenAI({
        baseURL: `${url}/v1`,
        apiKey: id ? `${id}:${withSecret}` : 'none',
        maxRetries: 0,
    });
}

const ollama = ollamaClient();
const openai = openaiClient();

function sameName(a, b) {
    return a.replace(/:latest$/, '') === b.replace(/:latest$/, '');
}

const steps = {
    'ollama chat': async () => {
        const answer = await ollama.chat({ model, messages });
        assert.ok(answer.message.content.length > 0);
        assert.equal(answer.done, true);
        assert.ok(answer.eval_count > 0);
    },

    'ollama chat, streamed': async () => {
        const parts = [];
        for await (const part of await ollama.chat(
            { model, messages, stream: true })) {
            parts.push(part);
        }
        const text = parts.map((part) => part.message.content).join('');
        assert.ok(parts.length > 1 && text.length > 0);
        assert.equal(parts.at(-1).done, true);
        assert.ok(parts.at(-1).eval_count > 0);
    },

    'ollama generate, streamed': async () => {
        let text = '';
        for await (const part of await ollama.generate(
            { model, prompt: 'hello', stream: true })) {
            text += part.response;
        }
        assert.ok(text.length > 0);
    },

    'ollama embed': async () => {
        const answer = await ollama.embed(
            { model: embedModel, input: ['one', 'two'] });
        assert.equal(answer.embeddings.length, 2);
        assert.ok(answer.embeddings[0].length > 0);
    },

    'ollama list': async () => {
        const { models } = await ollama.list();
        assert.ok(models.some((one) => sameName(one.name, model)));
    },

    'openai chat': async () => {
        const answer = await openai.chat.completions.create(
            { model, messages });
        assert.ok(answer.choices[0].message.content.length > 0);
        assert.ok(answer.usage.completion_tokens > 0);
    },

    'openai chat, streamed': async () => {
        let text = '';
        let usage;
        for await (const chunk of await openai.chat.completions.create({
            model, messages, stream: true,
            stream_options: { include_usage: true },
        })) {
            text += chunk.choices[0]?.delta?.content ?? '';
            usage = chunk.usage ?? usage;
        }
        assert.ok(text.length > 0);
        assert.ok(usage.completion_tokens > 0);
    },

    'openai embeddings': async () => {
        const answer = await openai.embeddings.create(
            { model: embedModel, input: ['one', 'two'] });
        assert.equal(answer.data.length, 2);
        assert.equal(typeof answer.data[0].embedding[0], 'number');
    },

    'openai models': async () => {
        const found = [];
        for await (const one of openai.models.list()) {
            found.push(one.id);
        }
        assert.ok(found.some((name) => sameName(name, model)));
    },
};

if (denied) {
    steps['ollama chat with a model not allowed: 403'] = () => assert.rejects(
        ollama.chat({ model: denied, messages }), { status_code: 403 });

    steps['openai chat with a model not allowed: 403'] = () => assert.rejects(
        openai.chat.completions.create({ model: denied, messages }),
        OpenAI.PermissionDeniedError);
}

if (secret) {
    const wrong = 'f'.repeat(64);

    steps['ollama chat with a wrong secret: 401'] = () => assert.rejects(
        ollamaClient(wrong).chat({ model, messages }), { status_code: 401 });

    steps['openai chat with a wrong secret: 401'] = () => assert.rejects(
        openaiClient(wrong).chat.completions.create({ model, messages }),
        OpenAI.AuthenticationError);
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
