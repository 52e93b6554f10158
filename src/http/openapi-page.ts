// The page that shows the OpenAPI document and tries requests: plain, without external resources.

export const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Veneer API</title>
<link rel="stylesheet" href="/openapi/page.css">
<script src="/openapi/page.js" type="module"></script>
<h1>Veneer API</h1>
<p>The document is <a href="/openapi.json">/openapi.json</a>. Requests go to this service alone.</p>
<label>Token or user:password, kept in this page only <input id="secret" type="password" autocomplete="off"></label>
<main id="operations"></main>
</html>
`;

export const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
details { border: 1px solid #ccc; border-radius: 4px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; }
summary code { font-weight: 600; }
label { display: block; margin: .5rem 0; }
input, textarea { width: 100%; box-sizing: border-box; font: 13px/1.4 ui-monospace, monospace; padding: .3rem; }
textarea { min-height: 8rem; }
pre { background: #f5f5f5; overflow: auto; max-height: 30rem; padding: .5rem; white-space: pre-wrap; }
button { padding: .3rem 1rem; }
`;

/** Text from the service is inserted as text, never as markup. */
export const SCRIPT = `
const element = (name, text, children = []) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

function authorization() {
  const secret = document.getElementById('secret').value.trim();
  if (secret === '') return {};
  if (secret.startsWith('vnr_')) return { Authorization: 'Basic ' + btoa('token:' + secret) };
  return { Authorization: secret.includes(':') ? 'Basic ' + btoa(secret) : 'Bearer ' + secret };
}

function showOperation(path, method, operation) {
  const inputs = operation.parameters.map(({ name, in: place }) => ({ name, place, input: element('input') }));
  const body = operation.requestBody && element('textarea', '{}');
  const output = element('pre');
  const send = element('button', 'Send');
  send.onclick = async () => {
    let target = path;
    const query = new URLSearchParams();
    for (const { name, place, input } of inputs) {
      if (place === 'path') target = target.replace('{' + name + '}', encodeURIComponent(input.value));
      else if (input.value !== '') query.set(name, input.value);
    }
    if (query.size > 0) target += '?' + query;
    const headers = { ...authorization(), ...(body && { 'Content-Type': 'application/json' }) };
    output.textContent = 'waiting';
    try {
      const answer = await fetch(target, { method: method.toUpperCase(), headers, ...(body && { body: body.value }) });
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch {}
      output.textContent = answer.status + ' ' + answer.statusText + '\\n\\n' + shown;
    } catch (error) {
      output.textContent = String(error);
    }
  };
  const title = element('summary', '', [element('code', method.toUpperCase() + ' ' + path), ' ' + operation.summary]);
  return element('details', '', [
    title,
    ...inputs.map(({ name, input }) => element('label', name, [input])),
    ...(body ? [element('label', 'body', [body])] : []),
    send,
    output,
    element('details', '', [element('summary', 'schemas'), element('pre', JSON.stringify(operation, null, 2))]),
  ]);
}

const described = await (await fetch('/openapi.json')).json();
for (const [path, methods] of Object.entries(described.paths))
  for (const [method, operation] of Object.entries(methods))
    document.getElementById('operations').append(showOperation(path, method, operation));
`;
