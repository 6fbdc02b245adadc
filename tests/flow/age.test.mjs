/* Age: how it is read, corrected and sent. */
import assert from 'node:assert/strict';
import { assertHit, cacheStatus, flow, httpDate, twice } from './harness/flow.mjs';

const fresh = { 'Cache-Control': 'max-age=1000' };

function ages(name, rows) {
    flow(name, async (s) => {
        for (const [at, [headers, age]] of rows.entries()) {
            const { second, hit } = await twice(s, `/${at}`, { headers: { ...fresh, ...headers } });
            assert.ok(hit, `row ${at}`);
            const shown = Number(second.header('age'));
            assert.ok(shown >= age && shown <= age + 15, `row ${at}: Age ${shown}, expected ${age}`);
            const { ttl } = cacheStatus(second);
            assert.ok(ttl <= 1000 - age && ttl >= 1000 - age - 15, `row ${at}: ttl ${ttl}`);
        }
    });
}

ages('Age of the origin counts against freshness and is passed on, grown', [
    [{ Age: '0' }, 0], [{ Age: '300' }, 300], [{ Age: '0000300' }, 300],
]);

ages('only the first list member of the first line counts, and digits only', [
    [{ Age: '300, 700' }, 300],
    [{ Age: ['300', '700'] }, 300],
    [{ Age: '-5' }, 0],
    [{ Age: '300.5' }, 0],
    [{ Age: '300;x=1' }, 0],
    [{ Age: 'abc' }, 0],
    [{ Age: '"300"' }, 0],
    [{ Age: 'x, 300' }, 0],
]);

ages('a Date in the past counts as age when it is more than Age says', [
    [{ Date: httpDate(-400) }, 400],
    [{ Date: httpDate(-400), Age: '100' }, 400],
    [{ Date: httpDate(-100), Age: '400' }, 400],
    [{ Date: httpDate(300) }, 0],
]);

flow('a huge Age saturates and makes the answer stale', async (s) => {
    for (const [at, age] of ['2147483648', '99999999999999999999'].entries()) {
        const { hit } = await twice(s, `/${at}`, { headers: { ...fresh, Age: age, ETag: '"v"' } });
        assert.equal(hit, false, age);
    }
});

flow('Date is never rewritten and Age is sent on every stored answer', async ({ get, origin }) => {
    const date = httpDate(-123);
    origin.answers({ headers: { ...fresh, Date: date } });
    const first = await get('/a');
    const second = await get('/a');
    assert.deepEqual([first.all('date'), second.all('date')], [[date], [date]]);
    assert.equal(second.all('age').length, 1);
    assertHit(second);
});

flow('a Date is added when the origin sends none', async ({ get, origin }) => {
    origin.answers({ headers: { ...fresh, Date: null } });
    await get('/a');
    const { lines } = await get('/a');
    assert.equal(lines.filter((line) => /^date:/i.test(line)).length, 1);
});

flow('an answer straight from the origin carries the Age of the origin at least', async ({ get, origin }) => {
    origin.answers({ headers: { ...fresh, Age: '200' } });
    assert.ok(Number((await get('/a')).header('age')) >= 200);
});
