// The entry point: sets V8's heap flags before anything else is loaded, and then runs the program.
import module from 'node:module';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';

const OLDEST_NODE = 26;

// Nothing above may need more than what an old Node has: it could not say what is wrong.
const { node } = process.versions;
if (Number.parseInt(node, 10) < OLDEST_NODE) {
  process.stderr.write(`veneer needs Node ${OLDEST_NODE} or newer; this is Node ${node}\n`);
  process.exit(1);
}

// By default V8 lets garbage grow to several times the live heap, and a container is killed for unused memory. Much lower
// values, though, start a major collection every few megabytes of streamed bodies: docs/decisions/0020-hot-paths.md.
setFlagsFromString('--heap-growing-percent=80');
// Keeps the young generation at 3 MiB instead of up to 96: survivors are promoted a little sooner.
setFlagsFromString('--semi-space-growth-factor=1');

cacheCompiledCode();
// The same classes as Node's own, which would be loaded a second time for them: a tenth of a start.
const { install } = await import('undici');
install();
await import('./program.ts');
// At once, since a process that is killed has no time for it.
module.flushCompileCache();

/**
 * Compiling takes most of the startup time, and stripping types from a clone takes 20 MiB in each thread. The cache lies beside the
 * program, so that only those who can change the program can change it; in a read-only directory the program is compiled at each start.
 */
function cacheCompiledCode(): void {
  const { env } = process;
  const directory = env.NODE_COMPILE_CACHE ?? fileURLToPath(new URL('../node_modules/.cache/veneer', import.meta.url));
  const { status } = module.enableCompileCache(directory);
  // For worker threads.
  if (status === module.constants.compileCacheStatus.ENABLED) env.NODE_COMPILE_CACHE = directory;
}
