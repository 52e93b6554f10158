// The console: web pages under /console. They require the same rights as the corresponding requests to the API, and omit what the caller
// may not see.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import type { Access } from '../../access/access.ts';
import type { Activity } from '../../observe/activity.ts';
import type { ListedRule, RuleList } from '../../rules/explanation.ts';
import { requireAdmin, requireCaller } from '../middleware/authentication.ts';
import { createBuildList } from './builds.ts';
import { type ShowPage, wantsPage } from './layout.ts';
import { createLogin } from './login.ts';
import { createMakePages } from './make.ts';
import { createOverview } from './overview.ts';
import { chip, copyable, countOf, type Html, note, table, timeOf } from './parts.ts';
import { createStoragePages } from './storage.ts';
import { createTokenPages } from './tokens.ts';

type ConsoleDeps = Parameters<typeof createOverview>[0] &
  Parameters<typeof createBuildList>[0] &
  Parameters<typeof createStoragePages>[0] &
  Parameters<typeof createTokenPages>[0] &
  Parameters<typeof createMakePages>[0] &
  Parameters<typeof createMirrorPages>[0] &
  Parameters<typeof createRulePages>[0] & {
    /** Undefined if logging in is not possible. */
    readonly sessions: Access['sessions'];
  };

export function createConsole({ show, sessions, body, ...deps }: ConsoleDeps): Hono {
  const app = new Hono();
  if (sessions) app.route('/', createLogin({ sessions, show, body }));
  const overview = createOverview(deps);
  const pages = { ...deps, show, body };
  const ofContent = [createBuildList, createStoragePages, createTokenPages];
  for (const create of [...ofContent, createRulePages, createMakePages, createMirrorPages])
    app.route('/', create(pages));
  app.get('/console', async c => show(c, await overview(c)));
  // Other clients get a 404 there.
  app.use('/', async (c, next) => (c.req.method === 'GET' && wantsPage(c) ? c.redirect('/console') : next()));
  return app;
}

// The configuration files that make container runtimes pull through this Veneer, as printed by `veneer mirror-config`.

interface MirrorPagesDeps {
  readonly listMirrorFiles: () => readonly RuntimeFile[];
  readonly show: ShowPage;
}

/** The file of a runtime, or the reason why it cannot be a client of this configuration. */
interface RuntimeFile {
  readonly runtime: string;
  readonly file: { readonly content: string; readonly hints: readonly string[] } | { readonly reason: string };
}

function createMirrorPages({ listMirrorFiles, show }: MirrorPagesDeps): Hono {
  const app = new Hono();
  app.get('/console/mirrors', (c: Context) => {
    // The page names the configured upstreams.
    requireCaller(c);
    return show(c, {
      title: 'Mirror set-up',
      lead: 'Configuration files that make a container runtime pull images of other registries through this Veneer, under their own names.',
      body: html`${listMirrorFiles().map(describeFile)}
<p class="muted small"><code>veneer mirror-config</code> prints the same files, also for other addresses and registries.</p>`,
    });
  });
  return app;
}

const NAMES: Readonly<Record<string, string>> = {
  docker: 'Docker',
  containerd: 'containerd 1.6 and 2.x',
  podman: 'Podman',
  crio: 'CRI-O',
};

function describeFile({ runtime, file }: RuntimeFile): Html {
  const name = NAMES[runtime] ?? runtime;
  const instructions =
    'reason' in file
      ? note('warn', file.reason)
      : html`${copyable(`the file for ${name}`, file.content)}<pre class="steps" tabindex="0" aria-label="Next steps for ${name}">${file.hints.join('\n')}</pre>`;
  return html`<h2>${name}</h2>${instructions}`;
}

// The active rules: what each matches and changes, and how often it was applied.

interface RulePagesDeps {
  readonly listRules: () => RuleList;
  readonly activity: Activity;
  readonly show: ShowPage;
  readonly now: () => Date;
}

function createRulePages({ listRules, activity, show, now }: RulePagesDeps): Hono {
  const app = new Hono();
  app.get('/console/rules', (c: Context) => {
    requireAdmin(c);
    const { rules, loadedAt, faults } = listRules();
    const rows = rules.map(rule => [
      html`<strong>${rule.name}</strong>`,
      describeMatch(rule),
      describeChanges(rule),
      chip(rule.pinned === 'refused' ? 'warn' : 'quiet', rule.pinned),
      countOf(activity.rules.get(rule.name) ?? 0),
    ]);
    const columns = [
      ...['Rule', { name: 'For', isText: true }, { name: 'Changes', isText: true }, 'Pinned digests'],
      { name: 'Requests', isNumber: true },
    ];
    const broken =
      faults.length > 0 &&
      note(
        'bad',
        html`The rules on disk have faults; those below stay active:<ul>${faults.map(fault => html`<li>${fault}</li>`)}</ul>`,
      );
    const empty = 'None: images are served unchanged. Rules are configured in veneer.yaml.';
    const body = html`${broken}${table('Rules', columns, rows, empty)}
<p class="muted small">Active ${timeOf(loadedAt, now())}. Counts are requests that a rule was applied to since the start.</p>`;
    return show(c, { title: 'Rules', lead: 'Changes applied to pulled images, in this order.', body });
  });
  return app;
}

function describeMatch({ match: { image, not = [], platform = [], caller = [] } }: ListedRule): Html {
  const part = (name: string, globs: readonly string[]) =>
    globs.length > 0 && html`<div><span class="muted">${name}</span> <code>${globs.join(', ')}</code></div>`;
  return html`${part('', image)}${part('not', not)}${part('on', platform)}${part('by', caller)}`;
}

function describeChanges({ layers, changes }: ListedRule): Html {
  const added = layers.map(({ from, platforms = [] }) => {
    const on = platforms.length > 0 ? ` (${platforms.join(', ')})` : '';
    return html`<div><span class="muted">layer</span> <code>${from}</code>${on}</div>`;
  });
  return html`${added}${changes.length > 0 && html`<div>${changes.join(', ')}</div>`}`;
}
