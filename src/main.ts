// The process: V8 is told to keep its heap small before anything is loaded that fills it, and then the program runs.
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

// Left alone, V8 lets garbage grow to several times what is in use before it looks for it: a container is killed for what nobody needs. With
// much less than this, though, bodies that pass start a large collection every few megabytes: docs/decisions/0020-hot-paths.md.
setFlagsFromString('--heap-growing-percent=80');
// What is new gets 3 MiB, not up to 96: what lives longer moves on a little sooner.
setFlagsFromString('--semi-space-growth-factor=1');

cacheCompiledCode();
await import('./program.ts');
// At the end of a process that is killed there is no time for it.
module.flushCompileCache();

/**
 * Compiling the program takes most of a start, and of a clone what takes types off takes 20 MiB in each thread. Whoever may write beside the
 * program may change the program itself; where nobody may, it is compiled at each start.
 */
function cacheCompiledCode(): void {
  const { env } = process;
  const directory = env.NODE_COMPILE_CACHE ?? fileURLToPath(new URL('../node_modules/.cache/veneer', import.meta.url));
  const { status } = module.enableCompileCache(directory);
  // Threads look for it there.
  if (status === module.constants.compileCacheStatus.ENABLED) env.NODE_COMPILE_CACHE = directory;
}
