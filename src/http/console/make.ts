// Forms to augment or build an image. They become exactly the API request that they show, with the same checks and limits.

import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { RegistryError } from '../../oci/errors.ts';
import type { Origins } from '../../pull/origin.ts';
import { ApiError } from '../../submit/errors.ts';
import type { Submit } from '../../submit/submit.ts';
import { requesterOf, requireCaller } from '../middleware/authentication.ts';
import { noteError } from '../middleware/errors.ts';
import { noteSubmission } from '../wave/augment-api.ts';
import type { BodyLimits } from '../wave/json-body.ts';
import { imageAddress, publicHost } from '../wave/public-host.ts';
import { submitResponse } from '../wave/submit-response.ts';
import { createParseSubmit, type SubmitLimits } from '../wave/submit-schema.ts';
import { postForm, realmOf, withForm } from './forms.ts';
import type { Page, ShowPage } from './layout.ts';
import { copyable, facts, type Html, note, timeOf } from './parts.ts';

interface MakePagesDeps {
  readonly submit: Submit;
  readonly limits: SubmitLimits;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly show: ShowPage;
  readonly body: BodyLimits;
  readonly now: () => Date;
}

const PATH = '/console/new';

export function createMakePages({ submit, limits, origins, publicUrl, show, body, now }: MakePagesDeps): Hono {
  const app = new Hono();
  const parseSubmit = createParseSubmit(limits);

  app.get(PATH, (c: Context) => {
    requireCaller(c);
    return show(c, formPage(c, new URLSearchParams({ image: c.req.query('image') ?? '' })));
  });
  app.post(PATH, (c: Context) =>
    withForm(c, body, async (fields, files) => {
      requireCaller(c);
      try {
        return await make(c, fields, files);
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof RegistryError)) throw error;
        // Handled elsewhere: 401 redirects to the login, 429 has a Retry-After.
        if (error.status === 401 || error.status === 429) throw error;
        noteError(c, { status: error.status, code: 'UNKNOWN', message: error.message });
        return show(c, { ...formPage(c, fields, error.message), status: error.status >= 500 ? 503 : 400 });
      }
    }),
  );
  return app;

  async function make(c: Context, fields: URLSearchParams, files: ReadonlyMap<string, File>): Promise<Response> {
    const request = toRequest(fields, await readFiles(files));
    const host = publicHost(publicUrl, c.req.header('Host'));
    const submission = await submit(requesterOf(c), parseSubmit(request), c.req.raw.signal);
    noteSubmission(c, submission);
    const view = { host, addressOf: (image: string) => imageAddress(image, origins, host) };
    const answer = submitResponse(submission, view);
    const shown = toRequest(fields, placeFiles(files));
    const described = { request: shown, answer, kind: fields.get('kind') ?? '', now: now() };
    return show(c, { title: 'Made', ...describeMade(c, described) });
  }
}

/** The location of each selected file, by the name of its field. */
type Locations = ReadonlyMap<string, string>;

async function readFiles(files: ReadonlyMap<string, File>): Promise<Locations> {
  const read = async (file: File) => `data:${Buffer.from(await file.arrayBuffer()).toString('base64')}`;
  return new Map(await Promise.all([...files].map(async ([name, file]) => [name, await read(file)] as const)));
}

/** Displayed commands name the file in place of its bytes. */
const FILE_MARK = /"data:\0([^"]*)"/g;

function placeFiles(files: ReadonlyMap<string, File>): Locations {
  return new Map([...files].map(([name, file]) => [name, `data:\0${file.name.replaceAll(/[\p{Cc}"\\]/gu, '_')}`]));
}

/** The request of the API, without empty fields. */
function toRequest(fields: URLSearchParams, files: Locations): Readonly<Record<string, unknown>> {
  const text = (name: string) => fields.get(name)?.trim() || undefined;
  const lines = (name: string) => {
    const found = (fields.get(name) ?? '')
      .split('\n')
      .map(line => line.trim())
      .filter(Boolean);
    return found.length > 0 ? found : undefined;
  };
  const common = {
    containerPlatform: text('platforms'),
    ...(text('repository') && { buildRepository: text('repository') }),
  };
  if (fields.get('kind') === 'build') {
    const containerFile = Buffer.from((fields.get('file') ?? '').replaceAll('\r\n', '\n')).toString('base64');
    const context = files.get('context');
    return withoutAbsent({ containerFile, buildContext: context && { location: context }, ...common });
  }
  const layers = [...(lines('layers') ?? []), ...(files.get('layer') ? [files.get('layer')] : [])];
  const config = withoutAbsent({
    ...{ env: lines('env'), workingDir: text('workingDir'), user: text('user') },
    labels: toLabels(lines('labels')),
    ...{ entrypoint: lines('entrypoint'), cmd: lines('cmd') },
    layers: layers.length > 0 ? layers.map(location => ({ location })) : undefined,
  });
  const freeze = fields.get('freeze') === 'yes' || undefined;
  return withoutAbsent({ containerImage: text('image'), ...common, containerConfig: config, freeze });
}

/** Throws ApiError. */
function toLabels(lines: readonly string[] | undefined): Readonly<Record<string, string>> | undefined {
  const entries = lines?.map(line => {
    const at = line.indexOf('=');
    if (at <= 0) throw new ApiError(400, `labels: "${line.slice(0, 80)}" is not NAME=VALUE`);
    return [line.slice(0, at), line.slice(at + 1)] as const;
  });
  return entries && Object.fromEntries(entries);
}

function withoutAbsent(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function formPage(c: Context, given: URLSearchParams, fault?: string): Page {
  const told = fault !== undefined && html`<div role="alert">${note('bad', fault)}</div>`;
  return {
    title: 'New image',
    lead: 'Change an existing image, or build a new one, for all requested platforms.',
    body: html`${told}<div class="pair">
<section aria-labelledby="augment"><h2 id="augment">Augment an image</h2><div class="card">${augmentForm(c, given)}</div></section>
<section aria-labelledby="build"><h2 id="build">Build an image</h2><div class="card">${buildForm(c, given)}</div></section>
</div>`,
  };
}

interface Input {
  readonly name: string;
  readonly label: string;
  readonly hint: string;
  readonly isLong?: boolean;
  readonly isRequired?: boolean;
  readonly isFile?: boolean;
}

function augmentForm(c: Context, given: URLSearchParams): Html {
  const inputs: readonly Input[] = [
    { name: 'image', label: 'Image', hint: 'Such as docker.io/library/alpine:3.', isRequired: true },
    { name: 'env', label: 'Environment', hint: 'NAME=value, one per line.', isLong: true },
    {
      ...{ name: 'layers', label: 'Layers', isLong: true },
      hint: 'Addresses of tars (https://…) or images (docker://…), one per line.',
    },
    {
      name: 'layer',
      label: 'A layer of your own',
      hint: 'A tar, plain or compressed with gzip or zstd.',
      isFile: true,
    },
    PLATFORMS,
  ];
  const more: readonly Input[] = [
    { name: 'labels', label: 'Labels', hint: 'name=value, one per line.', isLong: true },
    { name: 'entrypoint', label: 'Entrypoint', hint: 'One word per line.', isLong: true },
    { name: 'cmd', label: 'Command', hint: 'One word per line.', isLong: true },
    { name: 'workingDir', label: 'Working directory', hint: 'Such as /opt/app.' },
    { name: 'user', label: 'User', hint: 'A name or number, such as 1000:1000.' },
    { name: 'repository', label: 'Repository', hint: 'For a frozen image; empty: the configured one.' },
  ];
  const describe = (input: Input) => describeInput('augment', input, given);
  // Stays open if it has input.
  const isOpen = more.some(({ name }) => given.get('kind') === 'augment' && given.get(name));
  const others = html`<details class="more"${isOpen && html` open`}><summary>Labels, entrypoint, user and more</summary>${more.map(describe)}</details>`;
  const isFrozen = given.get('freeze') === 'yes';
  const freeze = html`<fieldset class="choices"><label><input type="checkbox" name="freeze" value="yes"${isFrozen && html` checked`}> Store it under a permanent name</label></fieldset>`;
  const kind = html`<input type="hidden" name="kind" value="augment">`;
  return postForm(c, PATH, [kind, ...inputs.map(describe), others, freeze, html`<button>Augment</button>`], {
    hasFiles: true,
  });
}

const PLATFORMS: Input = {
  name: 'platforms',
  label: 'Platforms',
  hint: 'Such as linux/amd64,linux/arm64; empty: all of the image.',
};

function buildForm(c: Context, given: URLSearchParams): Html {
  const inputs: readonly Input[] = [
    {
      name: 'file',
      label: 'Containerfile',
      hint: 'Such as FROM docker.io/library/alpine:3.',
      isLong: true,
      isRequired: true,
    },
    {
      name: 'context',
      label: 'Context',
      hint: 'A tar of the files for COPY, plain or compressed with gzip; none: an empty context.',
      isFile: true,
    },
    { ...PLATFORMS, hint: 'Such as linux/amd64,linux/arm64; empty: the default of this Veneer.' },
    { name: 'repository', label: 'Repository', hint: 'The repository to push to; empty: the configured one.' },
  ];
  const kind = html`<input type="hidden" name="kind" value="build">`;
  const described = inputs.map(input => describeInput('build', input, given));
  return postForm(c, PATH, [kind, ...described, html`<button>Build</button>`], { hasFiles: true });
}

/** Filled with the previous input. */
function describeInput(
  kind: string,
  { name, label, hint, isLong, isRequired, isFile }: Input,
  given: URLSearchParams,
): Html {
  const isOfForm = (given.get('kind') ?? 'augment') === kind;
  const value = isOfForm ? (given.get(name) ?? '') : '';
  const id = `${kind}-${name}`;
  const required = isRequired && html` required`;
  if (isFile)
    return html`<div class="field"><label for="${id}">${label}</label><input id="${id}" name="${name}" type="file" aria-describedby="${id}-hint"><p class="hint" id="${id}-hint">${hint}</p></div>`;
  const control = isLong
    ? html`<textarea id="${id}" name="${name}" rows="3" spellcheck="false" aria-describedby="${id}-hint"${required}>${value}</textarea>`
    : html`<input id="${id}" name="${name}" class="mono" value="${value}" spellcheck="false" autocapitalize="none" aria-describedby="${id}-hint"${required}>`;
  return html`<div class="field"><label for="${id}">${label}</label>${control}<p class="hint" id="${id}-hint">${hint}</p></div>`;
}

interface Made {
  readonly request: Readonly<Record<string, unknown>>;
  readonly answer: ReturnType<typeof submitResponse>;
  readonly kind: string;
  readonly now: Date;
}

function describeMade(
  c: Context,
  { request, answer, kind, now }: Made,
): Pick<Page, 'body'> & { readonly lead: string } {
  const { targetImage, requestId, buildId, expiration, warnings = [] } = answer;
  const isBuilt = buildId !== undefined;
  const builds = buildId?.startsWith('mr-') ? 'mirrors' : 'builds';
  const about = facts({
    Image: html`<code>${targetImage}</code>`,
    Request: html`<a href="/view/containers/${requestId}">details of the request</a>`,
    Build: isBuilt ? html`<a href="/view/${builds}/${buildId}">${buildId}</a>` : undefined,
    Ends: expiration === undefined ? undefined : timeOf(expiration, now),
  });
  return {
    lead: isBuilt ? 'A pull waits for the build.' : 'It can be pulled now.',
    body: html`${warnings.map(warning => note('warn', warning))}<div class="card">${about}</div>
<h2>With Docker</h2>${copyable('the docker command', `docker run --rm ${targetImage}`)}
<h2>With the API</h2>${copyable('the curl command', curlOf(c, request))}
<h2>With Nextflow</h2>${copyable('the lines for nextflow.config', nextflowOf(c, { targetImage, kind }))}`,
  };
}

/** Quoted for the shell. */
function curlOf(c: Context, request: Readonly<Record<string, unknown>>): string {
  const login = c.get('rights').access.sessions ? ' \\\n  -u "token:$VENEER_TOKEN"' : '';
  const json = JSON.stringify(request, undefined, 2).replaceAll(String.raw`data:\u0000`, 'data:\0');
  const curl = `curl -sS ${new URL('/v1alpha2/container', realmOf(c)).href}${login} \\\n  -H 'Content-Type: application/json'`;
  const [first = '', ...rest] = json.split(FILE_MARK);
  if (rest.length === 0) return `${curl} -d ${quote(json)}`;
  // An argument of a command could be too small for the bytes of files.
  const parts = rest.map((part, at) => (at % 2 === 0 ? fileOf(part) : `printf %s ${quote(`"${part}`)}`));
  return `{ printf %s ${quote(first)}; ${parts.join('; ')}; } | ${curl} -d @-`;
}

function fileOf(name: string): string {
  return `printf '"data:'; base64 -w0 ${quote(`./${name}`)}`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function nextflowOf(
  c: Context,
  { targetImage, kind }: { readonly targetImage: string; readonly kind: string },
): string {
  const { origin } = new URL(realmOf(c));
  const wave = `wave.enabled = true\nwave.endpoint = '${origin}'\n`;
  if (kind === 'build')
    return `${wave}// with the Containerfile as "Dockerfile" beside the module\nwave.strategy = ['dockerfile', 'container']\n`;
  return `docker.enabled = true\nprocess.container = '${targetImage}'\n`;
}
