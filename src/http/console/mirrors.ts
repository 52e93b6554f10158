// The configuration files that make container runtimes pull through this Veneer, as printed by `veneer mirror-config`.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { requireCaller } from '../middleware/authentication.ts';
import type { ShowPage } from './layout.ts';
import { copyable, type Html, note } from './parts.ts';

interface MirrorPagesDeps {
  readonly listMirrorFiles: () => readonly RuntimeFile[];
  readonly show: ShowPage;
}

/** The file of a runtime, or the reason why it cannot be a client of this configuration. */
interface RuntimeFile {
  readonly runtime: string;
  readonly file: { readonly content: string; readonly hints: readonly string[] } | { readonly reason: string };
}

export function createMirrorPages({ listMirrorFiles, show }: MirrorPagesDeps): Hono {
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
