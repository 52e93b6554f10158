// The process: V8 is told to keep its heap small before anything is loaded that fills it, and then the program runs.
import { constants, enableCompileCache, flushCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';

// Left alone, V8 lets garbage grow to several times what is in use before it looks for it: a container is killed for what nobody needs.
setFlagsFromString('--heap-growing-percent=30');
// What is new gets 3 MiB, not up to 96: what lives longer moves on a little sooner.
setFlagsFromString('--semi-space-growth-factor=1');

keepCompiled();
await import('./program.ts');
// At the end of a process that is killed there is no time for it.
flushCompileCache();

/**
 * What takes types off takes 20 MiB in each thread, and is not loaded where all of it was done before. Who may write beside the program may
 * change the program itself; where nobody may, it is done anew at each start.
 */
function keepCompiled(): void {
  const { env } = process;
  const directory = env.NODE_COMPILE_CACHE ?? fileURLToPath(new URL('../node_modules/.cache/veneer', import.meta.url));
  const { status } = enableCompileCache(directory);
  // Threads look for it there.
  if (status === constants.compileCacheStatus.ENABLED) env.NODE_COMPILE_CACHE = directory;
}
