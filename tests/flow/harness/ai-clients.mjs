/**
 * The official clients, pointed at the node of a test by their base URL; nothing else is changed, but that they wait less.
 *
 *   openai(s, options), anthropic(s, options)
 *   sdk.openai(s), sdk.compatible(s), sdk.anthropic(s)     providers of the package `ai`
 *   langchain(s, options)
 *   thrown(promise)                         awaits what must throw, returns what it threw
 *   noting()                                a fetch that notes the client's requests, its retries too
 */
import Anthropic from '@anthropic-ai/sdk';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import OpenAI from 'openai';
import { CLIENT_KEY } from './ai.mjs';

/** Else it writes notes about models to the console. */
globalThis.AI_SDK_LOG_WARNINGS = false;

export { Anthropic, OpenAI };

export const openai = (s, options) => new OpenAI({ baseURL: `${s.base()}/v1`, apiKey: CLIENT_KEY, maxRetries: 0, ...options });
export const anthropic = (s, options) => new Anthropic({ baseURL: s.base('anthropic'), apiKey: CLIENT_KEY, maxRetries: 0, ...options });

export const sdk = {
    openai: (s) => createOpenAI({ baseURL: `${s.base()}/v1`, apiKey: CLIENT_KEY }),
    compatible: (s, more) => createOpenAICompatible({ name: 'doorstep', baseURL: `${s.base()}/v1`, apiKey: CLIENT_KEY, ...more }),
    anthropic: (s) => createAnthropic({ baseURL: `${s.base('anthropic')}/v1`, apiKey: CLIENT_KEY }),
};

export const langchain = {
    chat: (s, options) => new ChatOpenAI({ model: 'gpt-4o-mini', apiKey: CLIENT_KEY, maxRetries: 0,
        configuration: { baseURL: `${s.base()}/v1` }, ...options }),
    embeddings: (s, options) => new OpenAIEmbeddings({ model: 'text-embedding-3-small', apiKey: CLIENT_KEY, maxRetries: 0,
        configuration: { baseURL: `${s.base()}/v1` }, ...options }),
};

/** A `fetch` that notes every request the client makes, retries too. */
export function noting(calls = []) {
    const noted = async (url, init) => {
        calls.push({ url: String(url), headers: new Headers(init?.headers), body: init?.body });
        return fetch(url, init);
    };
    return Object.assign(noted, { calls });
}

export async function thrown(promise) {
    try {
        await promise;
    } catch (error) {
        return error;
    }
    throw new Error('nothing was thrown');
}
