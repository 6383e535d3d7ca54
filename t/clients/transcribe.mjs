// The official "openai" client sends a file to be transcribed:
//
//     node transcribe.mjs URL MODEL [FILE]
//
// HYBRID_ID and HYBRID_SECRET are the credential; prints the answer as JSON.

import { createReadStream } from 'node:fs';
import process from 'node:process';
import OpenAI, { toFile } from 'openai';

const [url, model, file] = process.argv.slice(2);
const openai = new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: `${process.env.HYBRID_ID}:${process.env.HYBRID_SECRET}`,
    maxRetries: 0,
});
const sound = async () => (file ? createReadStream(file)
    : toFile(Buffer.from('RIFF----\r\n--x'), 'größe "1".wav'));

const results = [];

for (const what of ['transcriptions', 'translations']) {
    try {
        const answer = await openai.audio[what].create({
            model, file: await sound(), temperature: 0.5, prompt: 'a\r\n--b',
        });
        results.push({ text: answer.text });
    } catch (error) {
        results.push({ status: error.status, code: error.code ?? null,
            message: error.message });
    }
}

console.log(JSON.stringify(results));
