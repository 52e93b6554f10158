// A test build, on request: the running service builds and pushes an image with a trivial RUN, on the builder that any build would use.
// Only this shows that a builder can execute RUN, and reaches Veneer.
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { packEntries } from '../../builds/context/tar.ts';
import type { Config } from '../../config/schema.ts';
import { createBuildsClient } from '../service/builds.ts';
import { type Service, ServiceRefused } from '../service/service.ts';
import { type CheckedService, type Finding, fault, note, ok } from './findings.ts';

const ABOUT = 'builds';
const TIMEOUT_MS = 10 * 60_000;
const LOOK_MS = 500;

export async function checkBuild(checked: CheckedService, url: URL | undefined): Promise<readonly Finding[]> {
  const { config, isRunning, env, now } = checked;
  if (!isRunning || !url) return [note(ABOUT, 'no test build: no service runs', 'start it: --builds sends it a build')];
  const platform = config.builds.platforms.find(each => PROGRAMS[each]);
  const program = platform === undefined ? undefined : PROGRAMS[platform];
  if (!program) return [note(ABOUT, 'no test build: there is none for builds.platforms, only for amd64 and arm64')];
  const service = { url, ...(env.VENEER_TOKEN && { token: env.VENEER_TOKEN }) };
  try {
    const failure = await build(service, {
      containerPlatform: platform,
      containerFile: Buffer.from(CONTAINER_FILE).toString('base64'),
      // Without it a builder would use its cache of the last RUN.
      buildArgs: { AT: now().toISOString() },
      buildContext: { location: `data:${(await tarOf('true', program)).toString('base64')}` },
    });
    if (failure === undefined) return [ok(ABOUT, `a RUN for ${platform} was built and pushed`)];
    return [fault(ABOUT, `a RUN of \`true\` for ${platform} fails: ${failure}`, remedyOf(config))];
  } catch (error) {
    if (!(error instanceof ServiceRefused)) throw error;
    return [fault(ABOUT, `a RUN of \`true\` for ${platform} is refused: ${error.message}`, remedyOf(config))];
  }
}

function remedyOf({ builds }: Config): string {
  const names = builds.backends.map(({ type }) => type).join(', ');
  return `see the notes on builders above, what a RUN needs (docs/builds.md), and whether builders reach Veneer (builds.registryHost); builds.backends: ${names}`;
}

const CONTAINER_FILE = 'FROM scratch\nCOPY true /true\nARG AT\nRUN ["/true"]\n';

/** The reason of its failure; undefined if it has succeeded. Throws ServiceRefused. */
async function build(service: Service, request: object): Promise<string | undefined> {
  const client = createBuildsClient(service);
  const { buildId } = await client.submit(request);
  if (buildId === undefined) return 'the service did not start a build';
  for (const until = Date.now() + TIMEOUT_MS; Date.now() < until; ) {
    const { status, reason } = await client.get(buildId);
    if (status === 'succeeded') return undefined;
    if (status === 'failed') return `${reason ?? 'no reason was given'} (veneer build log ${buildId})`;
    await wait(LOOK_MS);
  }
  await client.cancel(buildId);
  return `it has not ended within ${TIMEOUT_MS / 60_000} min`;
}

// Static programs that only end, with status 0: one segment, and a system call.
const elf = (machine: string, code: string) =>
  Buffer.from(
    `7f454c460201010000000000000000000200${machine}0001000000780040000000000040000000000000000000000000000000000000004000380001000000000000000100000005000000000000000000000000004000000000000000400000000000840000000000000084000000000000000010000000000000${code}`,
    'hex',
  );

const PROGRAMS: Readonly<Record<string, Buffer>> = {
  'linux/amd64': elf('3e', 'b83c00000031ff0f05909090'),
  'linux/arm64': elf('b7', 'a80b80d2000080d2010000d4'),
};

/** A tar of one executable file. */
function tarOf(name: string, content: Buffer): Promise<Buffer> {
  const header = { name, mode: 0o755, size: content.byteLength, mtime: new Date(0) };
  return buffer(packEntries([{ header, open: () => Readable.from([content]) }]));
}
