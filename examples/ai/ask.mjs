// Asks one question with an official client, which is told nothing but the node's base URL.
// Usage: node ask.mjs openai|anthropic http://127.0.0.1:PORT MODEL QUESTION
// Prints the answer as it streams, then the fields that say where it came from.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The clients are locked in tests/package.json.
const locked = createRequire(new URL('../../tests/package.json', import.meta.url));
const load = async (name) => (await import(pathToFileURL(locked.resolve(name)))).default;

const [client, base, model, question] = process.argv.slice(2);
const messages = [{ role: 'user', content: question }];

const clients = {
    async openai() {
        const OpenAI = await load('openai');
        const { data, response } = await new OpenAI({ baseURL: `${base}/v1`, apiKey: 'any' })
            .chat.completions.create({ model, messages, stream: true }).withResponse();
        for await (const chunk of data) {
            process.stdout.write(chunk.choices[0]?.delta.content ?? '');
        }
        return response;
    },
    async anthropic() {
        const Anthropic = await load('@anthropic-ai/sdk');
        const { data, response } = await new Anthropic({ baseURL: base, apiKey: 'any' })
            .messages.create({ model, messages, max_tokens: 200, stream: true }).withResponse();
        for await (const event of data) {
            process.stdout.write(event.delta?.text ?? '');
        }
        return response;
    },
};

const response = await clients[client]();
console.log();
for (const name of ['cache-status', 'doorstep-ai', 'server-timing']) {
    console.log(`${name}: ${response.headers.get(name)}`);
}
