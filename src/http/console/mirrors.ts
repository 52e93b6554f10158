// How container runtimes are told to pull through this Veneer: the files of `veneer mirror-config`, to be copied.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { requireCaller } from '../middleware/authentication.ts';
import type { ShowPage } from './layout.ts';
import { copyable, type Html, note } from './parts.ts';

interface MirrorPagesDeps {
  readonly listMirrorFiles: () => readonly RuntimeFile[];
  readonly show: ShowPage;
}

/** Of a runtime that cannot be a client of this configuration, why. */
interface RuntimeFile {
  readonly runtime: string;
  readonly file: { readonly content: string; readonly hints: readonly string[] } | { readonly reason: string };
}

export function createMirrorPages({ listMirrorFiles, show }: MirrorPagesDeps): Hono {
  const app = new Hono();
  app.get('/console/mirrors', (c: Context) => {
    // It names the upstreams that are configured.
    requireCaller(c);
    return show(c, {
      title: 'Mirror set-up',
      lead: 'What makes a runtime pull the images of other registries through this Veneer, under their own names.',
      body: html`${listMirrorFiles().map(describeFile)}
<p class="muted small"><code>veneer mirror-config</code> prints the same, for other addresses and registries as well.</p>`,
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
  const told =
    'reason' in file
      ? note('warn', file.reason)
      : html`${copyable(`the file for ${name}`, file.content)}<pre class="steps" tabindex="0" aria-label="Next steps for ${name}">${file.hints.join('\n')}</pre>`;
  return html`<h2>${name}</h2>${told}`;
}
