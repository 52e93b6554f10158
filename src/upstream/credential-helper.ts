// Docker's credential helpers: programs that keep secrets, asked by the protocol of docker-credential-helpers.
import { type ExecFileException, execFile } from 'node:child_process';
import { z } from 'zod';

interface HelperAnswer {
  readonly username: string;
  readonly secret: string;
}

/** A helper could not be asked. The message has its name and what happened, and nothing that it wrote. */
export class HelperFailure extends Error {
  override readonly name = 'HelperFailure';
}

interface Outcome {
  readonly error: ExecFileException | null;
  readonly stdout: string;
  readonly stderr: string;
}

const answerSchema = z.object({ Username: z.string(), Secret: z.string() });
const HELPER_NAME = /^[A-Za-z0-9._-]+$/;

/** Runs `docker-credential-<name> get` for `host`. Undefined where the helper has no credentials for it. Throws HelperFailure. */
export async function askHelper(name: string, host: string, timeoutMs: number): Promise<HelperAnswer | undefined> {
  if (!HELPER_NAME.test(name)) throw new HelperFailure('a credential helper has a name that no program can have');
  const program = `docker-credential-${name}`;
  const { error, stdout, stderr } = await run(program, host, timeoutMs);
  if (error && /credentials not found/i.test(`${stdout}${stderr}`)) return undefined;
  if (error) throw new HelperFailure(`${program} ${reasonOf(error, timeoutMs)}`);
  return parseAnswer(program, stdout);
}

function run(program: string, input: string, timeout: number): Promise<Outcome> {
  return new Promise(resolve => {
    const options = { timeout, killSignal: 'SIGKILL' } as const;
    const child = execFile(program, ['get'], options, (error, stdout, stderr) => resolve({ error, stdout, stderr }));
    // A helper that ends without reading its input is no failure of ours.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** The message of the error itself would quote what the helper wrote. */
function reasonOf({ code, killed }: ExecFileException, timeoutMs: number): string {
  if (code === 'ENOENT') return 'is not in PATH';
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'wrote too much';
  if (killed) return `did not answer within ${timeoutMs} ms`;
  return `failed (${typeof code === 'number' || typeof code === 'string' ? code : 'ended by a signal'})`;
}

function parseAnswer(program: string, stdout: string): HelperAnswer | undefined {
  try {
    const { Username, Secret } = answerSchema.parse(JSON.parse(stdout));
    return Secret ? { username: Username, secret: Secret } : undefined;
  } catch {
    throw new HelperFailure(`${program} did not answer with a Username and a Secret as JSON`);
  }
}
