/** The gateway with several event loops: what is in flight on one is joined from the others, what is stored by one is found by all. */
import assert from 'node:assert/strict';
import { aiFlow, answered, CHAT, gate, MESSAGE } from './harness/ai.mjs';

const user = (content) => ({ messages: [{ role: 'user', content }] });

/** More connections than loops, so that each loop has some. */
const CLIENTS = 24;

for (const threads of [1, 4]) {
    const options = { needs: 'node', config: { threads } };

    aiFlow(`${threads} loops: identical prompts in flight are one call, and all stream while it is under way`, options, async (s) => {
        const door = gate();
        s.cloud.next({ pieces: ['one ', 'two ', 'three'], between: door.at(1) });
        const clients = await Promise.all(Array.from({ length: CLIENTS }, () => s.asking('/v1/chat/completions', { ...CHAT, stream: true })));
        const heads = await Promise.all(clients.map((client) => client.head()));
        assert.equal(s.cloud.count, 1);
        door.open();
        await Promise.all(clients.map((client, i) => client.body(heads[i])));
        const first = heads[0].text;
        assert.match(first, /one[^]*three[^]*\[DONE\]/);
        assert.ok(heads.every((head) => head.complete && head.text === first), 'the same bytes for all');
        assert.equal(s.cloud.count, 1);
    });

    aiFlow(`${threads} loops: both modes in flight together`, options, async (s) => {
        const door = gate();
        s.claude.always({ wait: door.held });
        const clients = await Promise.all(Array.from({ length: CLIENTS }, (_, i) => s.asking('/v1/messages', { ...MESSAGE, stream: i % 2 === 0 })));
        await s.claude.arrived(1);
        door.open();
        const answers = await Promise.all(clients.map((client) => client.response()));
        answers.forEach((answer) => assert.match(answered(answer).said, /^answer \d of claude to/));
        assert.ok(s.claude.count <= 2, `${s.claude.count} calls`);
    });

    aiFlow(`${threads} loops: a call that fails, clients that leave, and the answers of the others`, options, async (s) => {
        for (const script of [{ error: 'bad_request' }, { pieces: ['a ', 'b '], cut: 1 }, { pieces: ['a ', 'b '], end: 1 }]) {
            const door = gate();
            const before = s.cloud.count;
            s.cloud.next({ ...script, wait: door.held });
            const ask = { ...CHAT, ...user(JSON.stringify(script)), stream: true };
            const clients = await Promise.all(Array.from({ length: CLIENTS }, () => s.asking('/v1/chat/completions', ask)));
            await s.cloud.arrived(before + 1);
            clients.slice(0, 5).forEach((client) => client.reset());
            door.open();
            const answers = await Promise.all(clients.slice(5).map((client) => client.response()));
            assert.ok(answers.every((answer) => [200, 400].includes(answer.status) && answer.complete));
        }
        assert.equal((await s.chat()).status, 200);
    });

    aiFlow(`${threads} loops: many questions, many clients, every answer its own`, options, async (s) => {
        s.cloud.always((request) => ({ text: `you said ${request.json.messages[0].content}` }));
        await Promise.all(Array.from({ length: CLIENTS }, async (_, i) => {
            for (let round = 0; round < 6; round++) {
                const content = `question ${(i + round) % 7}`;
                const answer = await s.chat({ ...user(content), stream: (i + round) % 2 === 0 });
                assert.equal(answer.said, `you said ${content}`);
            }
        }));
        assert.ok(s.cloud.count >= 7 && s.cloud.count < 30, `${s.cloud.count} calls`);
    });
}
