/* How long an answer is fresh: which field decides, and how each is read. */
import assert from 'node:assert/strict';
import { assertForwarded, assertHit, cacheStatus, flow, httpDate, twice } from './harness/flow.mjs';

const HOUR = 3600;
const validator = { ETag: '"v"' };

/** A table of headers and the ttl (seconds, give or take a few) that Cache-Status shows for a hit; null: not fresh. */
function lifetimes(name, rows, options = {}) {
    flow(name, options, async (s) => {
        for (const [at, [headers, ttl, status]] of rows.entries()) {
            const given = typeof headers === 'function' ? headers() : headers;
            const { second, hit } = await twice(s, `/${at}`, { status, headers: given });
            const what = `row ${at} ${JSON.stringify(given)}: ${second.header('cache-status')}`;
            assert.equal(hit, ttl !== null, what);
            if (ttl !== null) {
                const shown = cacheStatus(second).ttl;
                assert.ok(shown <= ttl && shown >= ttl - 15, `${what}, expected ttl=${ttl}`);
            }
        }
    });
}

lifetimes('CDN-Cache-Control beats s-maxage beats max-age beats Expires beats a heuristic', [
    [() => ({ 'CDN-Cache-Control': 'max-age=600', 'Cache-Control': 's-maxage=500, max-age=400',
        Expires: httpDate(300) }), 600],
    [() => ({ 'Cache-Control': 'max-age=400, s-maxage=500', Expires: httpDate(300) }), 500],
    [() => ({ 'Cache-Control': 'max-age=400', Expires: httpDate(300) }), 400],
    [() => ({ Expires: httpDate(300), 'Last-Modified': httpDate(-100 * HOUR) }), 300],
    [() => ({ 'Last-Modified': httpDate(-100 * HOUR) }), 10 * HOUR],
]);

lifetimes('Doorstep-Cache-Control comes before CDN-Cache-Control', [
    [{ 'Doorstep-Cache-Control': 'max-age=900', 'CDN-Cache-Control': 'max-age=600' }, 900],
    [{ 'Doorstep-Cache-Control': 'no-store', 'CDN-Cache-Control': 'max-age=600' }, null],
]);

lifetimes('a valid targeted field replaces Cache-Control and Expires altogether, also no-store', [
    [{ 'CDN-Cache-Control': 'max-age=600', 'Cache-Control': 'no-store' }, 600],
    [{ 'CDN-Cache-Control': 'max-age=600', 'Cache-Control': 'private, no-cache' }, 600],
    [() => ({ 'CDN-Cache-Control': 'max-age=600', Expires: '0' }), 600],
    [{ 'CDN-Cache-Control': 'no-store', 'Cache-Control': 'max-age=600' }, null],
    [{ 'CDN-Cache-Control': 'max-age=0', 'Cache-Control': 'max-age=600', ...validator }, null],
]);

lifetimes('an invalid or empty targeted field is ignored as a whole', [
    [{ 'CDN-Cache-Control': 'max-age=10, &&', 'Cache-Control': 'max-age=600' }, 600],
    [{ 'CDN-Cache-Control': '', 'Cache-Control': 'max-age=600' }, 600],
    [{ 'CDN-Cache-Control': 'max-age="10', 'Cache-Control': 'max-age=600' }, 600],
    [{ 'CDN-Cache-Control': 'No-Store!, max-age', 'Cache-Control': 'max-age=600' }, 600],
]);

lifetimes('a targeted field is a structured dictionary over all its lines', [
    [{ 'CDN-Cache-Control': ['max-age=600', 'public'], 'Cache-Control': 'max-age=10' }, 600],
    [{ 'CDN-Cache-Control': 'max-age=60, max-age=600' }, 600], // the last of equal keys counts (RFC 8941 §3.2)
    [{ 'CDN-Cache-Control': 'max-age=600;ext=1, something=(a b)' }, 600],
]);

lifetimes('directives are split with quoted strings respected', [
    [{ 'Cache-Control': 'extension="no-store, private, max-age=1", max-age=600' }, 600],
    [{ 'Cache-Control': 'extension="say \\"max-age=5\\"", max-age=600' }, 600],
    [{ 'Cache-Control': 'a="b', 'X-Next': 'max-age=600' }, null],
]);

lifetimes('directive names ignore case, white space and line splits', [
    [{ 'Cache-Control': 'MaX-aGe=600' }, 600],
    [{ 'Cache-Control': 'public ,\t  max-age=600  ,' }, 600],
    [{ 'Cache-Control': ['public', 'max-age=600'] }, 600],
]);

lifetimes("max-age='3600' and other broken numbers are not fresh", [
    [{ 'Cache-Control': "max-age='3600'", ...validator }, null],
    [{ 'Cache-Control': 'max-age=-5', ...validator }, null],
    [{ 'Cache-Control': 'max-age=3600x', ...validator }, null],
    [{ 'Cache-Control': 'max-age=', ...validator }, null],
    [{ 'Cache-Control': 'max-age = 3600', ...validator }, null],
    [{ 'Cache-Control': 'max-age=1e3', ...validator }, null],
    [{ 'Cache-Control': 'max-age=3.5', ...validator }, null],
]);

flow('huge values saturate instead of wrapping around', async (s) => {
    for (const [at, value] of ['2147483648', '4294967297', '99999999999', '18446744073709551617'].entries()) {
        const { second, hit } = await twice(s, `/${at}`, { headers: { 'Cache-Control': `max-age=${value}` } });
        assert.ok(hit, value);
        assert.ok(cacheStatus(second).ttl >= 2147480000, `${value}: ${second.header('cache-status')}`);
    }
});

lifetimes('leading zeros are fine', [
    [{ 'Cache-Control': 'max-age=0000600' }, 600],
    [{ 'Cache-Control': 's-maxage=00000000000000000000000000600' }, 600],
]);

lifetimes('Expires equal to Date, before it, zero or unreadable is stale', [
    [() => ({ Date: httpDate(), Expires: httpDate(), ...validator }), null],
    [() => ({ Expires: httpDate(-10), ...validator }), null],
    [{ Expires: '0', ...validator }, null],
    [{ Expires: '-1', ...validator }, null],
    [{ Expires: 'tomorrow', ...validator }, null],
]);

lifetimes('several Expires lines are stale', [
    [() => ({ Expires: [httpDate(600), httpDate(600)], ...validator }), null],
]);

function inFormats(seconds) {
    const date = new Date(Math.floor(Date.now() / 1000) * 1000 + seconds * 1000);
    const [weekday, day, month, year, time] = date.toUTCString().replace(',', '').split(' ');
    const long = { Mon: 'Monday', Tue: 'Tuesday', Wed: 'Wednesday', Thu: 'Thursday', Fri: 'Friday', Sat: 'Saturday',
        Sun: 'Sunday' }[weekday];
    return {
        imf: date.toUTCString(),
        rfc850: `${long}, ${day}-${month}-${year.slice(2)} ${time} GMT`,
        asctime: `${weekday} ${month} ${String(Number(day)).padStart(2)} ${time} ${year}`,
    };
}

lifetimes('the three date formats are read', [
    [() => ({ Expires: inFormats(600).imf }), 600],
    [() => ({ Expires: inFormats(600).rfc850 }), 600],
    [() => ({ Expires: inFormats(600).asctime }), 600],
]);

lifetimes('dates that only resemble one are stale', [
    [() => ({ Expires: httpDate(600).replace('GMT', 'UTC'), ...validator }), null],
    [() => ({ Expires: httpDate(600).replace('GMT', 'PST'), ...validator }), null],
    [() => ({ Expires: httpDate(600).replace(' GMT', ''), ...validator }), null],
    [() => ({ Expires: httpDate(600).replace(/:(\d\d) /, '.$1 '), ...validator }), null],
    [() => ({ Expires: httpDate(600).replace(/^(...),/, '$1'), ...validator }), null],
    [() => ({ Expires: httpDate(600) + ' x', ...validator }), null],
]);

lifetimes('Expires counts from Date, not from now', [
    [() => ({ Date: httpDate(-300), Expires: httpDate(300) }), 300], // 600 fresh, 300 of them gone
    [() => ({ Date: httpDate(-700), Expires: httpDate(-100), ...validator }), null],
]);

lifetimes('a heuristic lifetime is bounded to a day', [
    [() => ({ 'Last-Modified': httpDate(-1000 * 24 * HOUR) }), 24 * HOUR],
]);

lifetimes('a route can set the heuristic', [
    [() => ({ 'Last-Modified': httpDate(-10 * HOUR) }), 5 * HOUR],
    [() => ({ 'Last-Modified': httpDate(-100 * HOUR) }), 6 * HOUR],
], { route: { heuristic: { fraction: 0.5, max: '6h' } } });

lifetimes('ttl stands in where the response says nothing, before heuristics', [
    [() => ({ 'Last-Modified': httpDate(-100 * HOUR) }), 120],
    [{}, 120],
    [{ 'Cache-Control': 'max-age=600' }, 600],
    [{ 'Cache-Control': 'no-store' }, null],
], { route: { ttl: '2m' } });

lifetimes('ttl_min raises and ttl_max lowers a lifetime', [
    [{ 'Cache-Control': 'max-age=1' }, 60],
    [{ 'Cache-Control': 'max-age=90' }, 90],
    [{ 'Cache-Control': 'max-age=6000' }, 300],
    [{ 'Cache-Control': 'no-store' }, null],
], { route: { ttl_min: '1m', ttl_max: '5m' } });

flow('without any freshness information an answer is not reused', async (s) => {
    const { second, hit } = await twice(s, '/plain', {});
    assert.equal(hit, false);
    assertForwarded(second);
});

flow('unknown extension directives change nothing', async (s) => {
    const { second, hit } = await twice(s, '/x', {
        headers: { 'Cache-Control': 'max-age=600, foo, bar=1, community="UCI", max-agee=0, no-storee' } });
    assert.ok(hit);
    assertHit(second);
});

flow('Pragma in a response means nothing', async (s) => {
    assert.ok((await twice(s, '/p', { headers: { 'Cache-Control': 'max-age=600', Pragma: 'no-cache' } })).hit);
});

flow('the fields of a stored answer reach every client as they came', async (s) => {
    const { first, second } = await twice(s, '/f', { headers: {
        'Cache-Control': 'max-age=600', 'CDN-Cache-Control': 'max-age=700', 'X-Odd': ['1', '2'], Server: 'origin/1' } });
    for (const response of [first, second]) {
        assert.equal(response.header('cache-control'), 'max-age=600');
        assert.deepEqual(response.all('x-odd'), ['1', '2']);
        assert.equal(response.header('server'), 'origin/1');
        assert.equal(response.text, 'answer 1');
    }
});
