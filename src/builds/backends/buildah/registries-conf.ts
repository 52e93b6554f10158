// The registries.conf of a build, containers-registries.conf(5). It stands in for the machine's own; what is in registries.conf.d counts still.
import type { BuildOrder } from '../../backend.ts';

/** A host of this machine, wherever it stands in a text. */
const LOOPBACK = /(?<![\w.-])(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3})(?::\d{1,5})?(?![\w.-])/g;

/**
 * A name without a registry is docker.io's, as for every other builder. Plain HTTP is for the targets that want it, and for this machine's
 * own registries, as the other builders have it; `--tls-verify=false` would be for every registry that a base image comes from.
 */
export function registriesConf(order: InsecureOrder): string {
  const insecure = [...listInsecure(order)].map(
    host => `[[registry]]\nlocation = ${JSON.stringify(host)}\ninsecure = true\n`,
  );
  return ['unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n', ...insecure].join('\n');
}

type InsecureOrder = Pick<BuildOrder, 'target' | 'cache' | 'bases' | 'spec'>;

function listInsecure({ target, cache, bases, spec }: InsecureOrder): ReadonlySet<string> {
  const targets = [target, ...(cache ? [cache] : []), ...bases.values()].filter(({ isInsecure }) => isInsecure);
  const texts = [spec.containerFile, ...Object.values(spec.args)];
  return new Set([
    ...targets.map(({ name }) => name.slice(0, name.indexOf('/'))),
    ...texts.flatMap(text => [...text.matchAll(LOOPBACK)].map(([host]) => host)),
  ]);
}
