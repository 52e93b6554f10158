// Veneer as a process, and what it takes of the memory; where it can be had, in a control group with a limit, as a container has it.
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { checkUrl, findFreePort, type Killable, run, startProcess } from '../clients/support/process.ts';

export interface MeasuredProcess extends Killable {
  readonly address: string;
  /** In MiB: what it has now, and the most that it ever had. */
  readMemory(): Promise<{ readonly now: number; readonly peak: number }>;
}

export interface MeasuredOptions {
  /** A container: the built program, as the image has it, which is killed for having more memory. */
  readonly container?: { readonly program: string; readonly limitBytes: number };
  /** All of the configuration but where data lies and where it listens. */
  readonly config: Readonly<Record<string, unknown>>;
}

const ROOT = '/sys/fs/cgroup';
/** Of version 1, which has a tree for each kind, and of version 2. */
const VERSION_1 = existsSync(join(ROOT, 'memory'));

/** Why no limit can be set here, or undefined. */
export async function findNoLimit(): Promise<string | undefined> {
  try {
    await rmdir(await makeGroup(2 ** 30));
    return undefined;
  } catch (error) {
    return `needs a control group for memory: ${error}`;
  }
}

/** Gives the path of the program, which `npm run build` would make in the same way. */
export async function buildProgram(folder: string): Promise<string> {
  await run('rolldown', ['-c', '--dir', folder]);
  return join(folder, 'veneer.mjs');
}

async function makeGroup(limitBytes: number): Promise<string> {
  const group = join(ROOT, VERSION_1 ? 'memory' : '', `veneer-test-${randomUUID()}`);
  await mkdir(group);
  await writeFile(join(group, VERSION_1 ? 'memory.limit_in_bytes' : 'memory.max'), String(limitBytes));
  return group;
}

export async function startMeasured(folder: string, options: MeasuredOptions): Promise<MeasuredProcess> {
  const { container, config } = options;
  const address = `127.0.0.1:${await findFreePort()}`;
  const file = join(folder, 'veneer.yaml');
  const settings = {
    listen: address,
    dataDir: join(folder, 'data'),
    log: { level: 'warn', format: 'json' },
    ...config,
  };
  await writeFile(file, JSON.stringify(settings));
  const group = container && (await makeGroup(container.limitBytes));
  const enter = group ? ['sh', '-c', `echo $$ > ${group}/cgroup.procs && exec "$@"`, 'sh'] : [];
  const [command = '', ...args] = [...enter, process.execPath, container?.program ?? 'src/main.ts', '--config', file];
  const env = { DOCKER_CONFIG: folder, ...(container && { MALLOC_ARENA_MAX: '2' }) };
  const checkReady = () => checkUrl(`http://${address}/health/ready`);
  const running = await startProcess(command, args, { checkReady, env });

  async function end(how: () => Promise<void>): Promise<void> {
    await how();
    for (let tries = 0; group && tries < 50; tries += 1) {
      if (
        await rmdir(group).then(
          () => true,
          () => false,
        )
      )
        return;
      await setTimeout(100);
    }
  }

  return {
    ...running,
    address,
    stop: () => end(running.stop),
    kill: () => end(running.kill),
    async readMemory() {
      const status = await readFile(`/proc/${running.pid}/status`, 'utf8');
      const read = (key: string) => Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
      return { now: read('VmRSS'), peak: read('VmHWM') };
    },
  };
}
