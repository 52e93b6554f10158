// An image: as its registry has it, and as a pull through this Veneer returns it, side by side.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { platformSchema } from '../../oci/config-fields.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Reference } from '../../oci/reference.ts';
import type { Inspect } from '../../pull/images.ts';
import type { Origins } from '../../pull/origin.ts';
import type { Explain } from '../../pull/rules/explain.ts';
import type { AddedLayer, Difference, ExplainedImage, Explanation } from '../../rules/explanation.ts';
import type { RequireSources } from '../../submit/changes.ts';
import { ApiError, toSourceError } from '../../submit/errors.ts';
import { ownPart, parseImage } from '../admin/rules-api.ts';
import { callerName, callerOf, isAdmin } from '../middleware/authentication.ts';
import { findPublicHost } from '../wave/public-host.ts';
import type { ShowPage } from './layout.ts';
import { chip, copyable, digestOf, facts, type Html, note, sizeOf, type Tone, table } from './parts.ts';

interface ImagePagesDeps {
  readonly inspect: Inspect;
  readonly explain: Explain;
  readonly requireSources: RequireSources;
  readonly origins: Pick<Origins, 'isOwn'>;
  readonly publicUrl: string | undefined;
  /** Whether there is a console. */
  readonly isOn: boolean;
  readonly show: ShowPage;
}

/** At /view/inspect, whose address clients print, and in the console. */
export function createImagePages(deps: ImagePagesDeps): Hono {
  const { show, publicUrl, isOn } = deps;
  const app = new Hono();
  for (const path of isOn ? ['/console/images', '/view/inspect'] : ['/view/inspect']) {
    app.get(path, async (c: Context) => {
      const { image = '' } = c.req.query();
      if (image === '' && path === '/console/images')
        return show(c, { title: 'Images', lead: LEAD, body: searchForm(c) });
      const found = await findImage(c, image, deps);
      const host = findPublicHost(publicUrl, c.req.header('Host')) ?? 'localhost';
      return show(c, { title: image, lead: LEAD, body: html`${searchForm(c)}${describeImage(c, found, host)}` });
    });
  }
  return app;
}

const LEAD = 'An image as its registry has it, and as a pull through this Veneer returns it.';

function searchForm(c: Context): Html {
  const { image = '' } = c.req.query();
  return html`<form class="inline" method="get" action="${c.req.path}" role="search">
<div class="field"><label for="image">Image</label>
<input id="image" name="image" class="mono" required value="${image}" placeholder="docker.io/library/alpine:3" autocapitalize="none" spellcheck="false"></div>
<button>Look</button></form>`;
}

interface Found {
  readonly explanation: Explanation;
  /** Undefined for anything that engines do not run. */
  readonly chosen: ExplainedImage | undefined;
  /** Of the source, for the chosen platform. */
  readonly sourceLayers: readonly Descriptor[];
}

/** With the rights and by the rules of the caller. Throws ApiError or RegistryError. */
async function findImage(c: Context, image: string, deps: ImagePagesDeps): Promise<Found> {
  const { inspect, explain, origins, requireSources } = deps;
  const reference = parseImage(image, origins);
  requireSources(callerOf(c), [reference]);
  const { signal } = c.req.raw;
  try {
    const all = await explain(reference, { caller: callerName(c), signal });
    const explanation = isAdmin(c) ? all : ownPart(all);
    const chosen = choosePlatform(c, explanation);
    if (!chosen) return { explanation, chosen, sourceLayers: [] };
    return { explanation, chosen, sourceLayers: await listLayers(inspect, reference, chosen, signal) };
  } catch (error) {
    throw toSourceError(error, image);
  }
}

function choosePlatform(c: Context, { platforms }: Explanation): ExplainedImage | undefined {
  const { platform } = c.req.query();
  if (!platform) return platforms[0];
  const found = platforms.find(each => each.platform === platform);
  if (found) return found;
  throw new ApiError(
    404,
    `the image has no ${platform.slice(0, 100)}: it has ${platforms.map(each => each.platform).join(', ')}`,
  );
}

async function listLayers(inspect: Inspect, reference: Reference, { platform }: ExplainedImage, signal: AbortSignal) {
  const found = await inspect(reference, { platform: platformSchema.parse(platform), signal });
  return found.kind === 'image' ? found.manifest.layers : [];
}

const OUTCOMES: Readonly<Record<Explanation['outcome'], [Tone, string]>> = {
  changed: ['info', 'augmented'],
  unchanged: ['ok', 'as its registry has it'],
  refused: ['bad', 'refused'],
  failed: ['bad', 'cannot be pulled'],
};

function describeImage(c: Context, { explanation, chosen, sourceLayers }: Found, host: string): Html {
  const { image, outcome, reason, sourceDigest, digest } = explanation;
  const name = image.replace(/(?:@|:[^:/]*$).*/, '');
  const about = facts({
    Name: html`<code>${image}</code>`,
    'A pull gets': html`${chip(...OUTCOMES[outcome])} <span class="muted">${reason}</span>`,
    Source: digestOf(sourceDigest),
    Result: digest && digestOf(digest),
  });
  return html`<div class="card">${about}</div>
${
  digest &&
  html`<h2>Pull by digest</h2>${copyable('the pull command', `docker pull ${host}/${name}@${digest}`)}
<h3>Provenance</h3><p>${outcome === 'changed' ? 'An artifact that refers to the result describes the changes:' : 'The image is unchanged: its referrers are those of its registry.'}</p>
${copyable('the command that lists its referrers', `oras discover ${host}/${name}@${digest}`)}`
}
<h2>Platforms</h2>${describePlatforms(c, explanation, chosen)}
${chosen && describeChosen(chosen, sourceLayers)}
<h2>Rules</h2>${describeRules(explanation)}`;
}

function describePlatforms(c: Context, { platforms }: Explanation, chosen: ExplainedImage | undefined): Html {
  const { image = '' } = c.req.query();
  const rows = platforms.map(each => {
    const query = new URLSearchParams({ image, platform: each.platform }).toString();
    const isChosen = each === chosen;
    return [
      html`<a href="${c.req.path}?${query}"${isChosen && html` aria-current="true"`}>${each.platform}</a>`,
      digestOf(each.sourceDigest),
      each.digest === each.sourceDigest ? html`<span class="muted">the same</span>` : digestOf(each.digest),
      each.rules.join(', ') || html`<span class="muted">none</span>`,
    ];
  });
  return table(
    'Platforms',
    ['Platform', 'Source', 'Result', { name: 'Rules', isText: true }],
    rows,
    'None: it is not an image that engines run.',
  );
}

function describeChosen(chosen: ExplainedImage, sourceLayers: readonly Descriptor[]): Html {
  const { platform, differences, layers, warnings = [] } = chosen;
  return html`${warnings.map(warning => note('warn', warning))}
<h2>${platform}: source and result</h2>
<div class="pair">
<div><h3>Layers of the source</h3>${describeLayers('Layers of the source', sourceLayers, [])}</div>
<div><h3>Layers of the result</h3>${describeLayers('Layers of the result', sourceLayers, layers)}</div>
</div>
<h3>Configuration</h3>${describeDifferences(differences)}`;
}

function describeLayers(name: string, own: readonly Descriptor[], added: readonly AddedLayer[]): Html {
  const rows = [
    ...own.map(({ digest, size }, at) => [
      String(at + 1),
      digestOf(digest),
      sizeOf(size),
      html`<span class="muted">source</span>`,
    ]),
    ...added.map(({ digest, size, rule, from }, at) => [
      ...[String(own.length + at + 1), digestOf(digest), sizeOf(size)],
      html`${chip('info', rule ?? 'added')} ${from && html`<code>${from}</code>`}`,
    ]),
  ];
  const columns = [
    { name: '#', isNumber: true },
    'Digest',
    { name: 'Size', isNumber: true },
    { name: 'By', isText: true },
  ];
  return table(name, columns, rows);
}

function describeDifferences(differences: readonly Difference[]): Html {
  const text = (value: Difference['before']) =>
    value === undefined
      ? html`<span class="muted">none</span>`
      : html`<code>${Array.isArray(value) ? JSON.stringify(value) : value}</code>`;
  const rows = differences.map(({ field, key, before, after }) => [
    html`${field}${key !== undefined && html` <code>${key}</code>`}`,
    ...[text(before), text(after)],
  ]);
  const columns = ['Field', { name: 'Source', isText: true }, { name: 'Result', isText: true }];
  return table('Differences of the configuration', columns, rows, 'No difference.');
}

function describeRules({ rules }: Explanation): Html {
  const rows = rules.map(({ name, applies, reason }) => [
    html`<strong>${name}</strong>`,
    applies ? chip('info', 'applies') : chip('quiet', 'does not apply'),
    reason,
  ]);
  return table('Rules', ['Rule', 'State', { name: 'Why', isText: true }], rows, 'None applies.');
}
