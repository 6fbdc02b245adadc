const answers = document.getElementById('answers');
let n = 0;

async function ask() {
    const start = performance.now();
    const response = await fetch('/api/report');
    const report = await response.json();
    const row = answers.insertRow(0);
    const cells = [`${++n}`, `${(performance.now() - start).toFixed(1)} ms`, response.headers.get('cache-status') ?? '-',
        response.headers.get('age') ?? '-', report.made];
    cells.forEach((text) => { row.insertCell().textContent = text; });
}

document.getElementById('ask').addEventListener('click', ask);
ask();
