// Wires the console: the pages, and what they show of the configuration and the other rooms.
import type { Hono } from 'hono';
import { createMirrorFile, NotMirrored, type OwnMirror, RUNTIMES, type Runtime } from '../config/mirror-file.ts';
import { describeMirror } from '../config/own-address.ts';
import type { Config } from '../config/schema.ts';
import { createConsole } from '../http/console/console.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { normalizeName } from '../upstream/upstreams.ts';

type ConsoleDeps = Parameters<typeof createConsole>[0];

interface Started {
  readonly version: string;
  readonly commit: string;
  readonly startedAt: Date;
  /** Undefined if there is none. */
  readonly configFile: string | undefined;
}

/** Does nothing where the console is switched off. */
export function addConsole(
  app: Hono,
  {
    config,
    started,
    ...deps
  }: Omit<ConsoleDeps, 'service' | 'listMirrorFiles'> & {
    readonly config: Config;
    readonly started: Started;
  },
): void {
  if (!config.console) return;
  const { dataDir, openUpstreams, offline } = config;
  const service = { ...started, dataDir, openUpstreams, offline, upstreams: listUpstreams(config) };
  app.route('/', createConsole({ ...deps, service, listMirrorFiles: () => listMirrorFiles(config) }));
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

/** For each runtime its file, or why it cannot have one. containerd gets one file for strict upstreams, and one for the rest. */
function listMirrorFiles(config: Config) {
  const own = describeMirror(config);
  const hosts = [...new Set(['docker.io', ...own.upstreams.filter(isRegistryHost)])];
  const groups = [hosts.filter(host => !own.strict.includes(host)), hosts.filter(host => own.strict.includes(host))];
  return RUNTIMES.flatMap(runtime => {
    const wishes = runtime === 'containerd' ? groups.filter(({ length }) => length > 0) : [undefined];
    return wishes.map(upstream => ({ runtime, file: tryMirrorFile(runtime, upstream, own) }));
  });
}

function tryMirrorFile(runtime: Runtime, upstream: readonly string[] | undefined, own: OwnMirror) {
  try {
    return createMirrorFile(runtime, { upstream }, own);
  } catch (error) {
    if (!(error instanceof NotMirrored)) throw error;
    return { reason: error.message };
  }
}
