// Wires the console: what the configuration and the rooms say of themselves, for people.
import type { Hono } from 'hono';
import type { Config } from '../config/schema.ts';
import { createConsole } from '../http/console/console.ts';
import { createAssets, type ShowPage } from '../http/console/layout.ts';
import { normalizeName } from '../upstream/upstreams.ts';

type ConsoleDeps = Parameters<typeof createConsole>[0];

interface Started {
  readonly version: string;
  readonly commit: string;
  readonly startedAt: Date;
  /** Undefined where there is none. */
  readonly configFile: string | undefined;
}

/** Where the console is off, the pages under /view/ still load what they look like. */
export function addConsole(
  app: Hono,
  {
    config,
    started,
    show,
    ...deps
  }: Omit<ConsoleDeps, 'service'> & {
    readonly config: Config;
    readonly started: Started;
    readonly show: ShowPage;
  },
): void {
  app.route('/', createAssets());
  if (!config.console) return;
  const { dataDir, openUpstreams, offline } = config;
  const service = { ...started, dataDir, openUpstreams, offline, upstreams: listUpstreams(config) };
  app.route('/', createConsole({ ...deps, show, service }));
}

/** In the order of the file; the default one in any case. */
function listUpstreams({ upstreams, defaultUpstream }: Config) {
  const entries = Object.entries(upstreams).map(([name, { credentials, mirrors, offline, strict }]) => ({
    name: normalizeName(name),
    hasCredentials: credentials !== undefined,
    mirrors: mirrors.length,
    isOffline: offline,
    isStrict: strict,
  }));
  const name = normalizeName(defaultUpstream);
  if (name === 'none' || entries.some(entry => entry.name === name)) return entries;
  return [...entries, { name, hasCredentials: false, mirrors: 0, isOffline: false, isStrict: false }];
}
