// Our credentials for upstreams, from docker's own config file and its helpers.
import { type ExecFileException, execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { parseJson } from '../../oci/json.ts';

/** A password, or an identity token that a token server accepts instead. */
export type Credentials = PasswordCredentials | { readonly username: string; readonly identityToken: string };

export interface PasswordCredentials {
  readonly username: string;
  readonly password: string;
}

/** The credentials for a host; undefined where there are none. */
export type FindCredentials = (host: string) => Promise<Credentials | undefined>;

const text = z.string().nullish();
const entrySchema = z.object({ auth: text, username: text, password: text, identitytoken: text }).nullish();

/** Parsed like Go does: null counts as absent everywhere. An error in one entry does not affect the others. */
const configSchema = z.object({ auths: z.unknown(), credHelpers: z.unknown(), credsStore: z.unknown() }).partial();
const entriesSchema = z.record(z.string(), z.unknown()).nullish();

interface DockerConfig {
  readonly auths: ReadonlyMap<string, NonNullable<z.infer<typeof entrySchema>>>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
  /** Unreadable parts, which are treated as absent. */
  readonly faults: readonly string[];
}

const HELPER_TIMEOUT_MS = 10_000;
const HUB_KEYS: readonly string[] = [
  'https://index.docker.io/v1/',
  'docker.io',
  'index.docker.io',
  'registry-1.docker.io',
];

/**
 * Looks up credentials in docker's config file, which is reread each time: logins change it. An unusable file or entry counts as absent;
 * the upstream then reports what is missing. A key may have more than its host, such as a path of the API: like docker, only the host is
 * compared.
 */
export function createDockerCredentials(options: {
  readonly configPath: string;
  /** Called for a helper that failed: its host is then used without credentials. */
  readonly onHelperFailed?: ((failure: HelperFailure) => void) | undefined;
  /** Called with errors of the file, each time that they change: with the name of an entry, never its contents. */
  readonly onFault?: ((fault: string) => void) | undefined;
  readonly helperTimeoutMs?: number | undefined;
}): FindCredentials {
  const { configPath, onHelperFailed, onFault, helperTimeoutMs = HELPER_TIMEOUT_MS } = options;
  let reported = '';

  async function ask(helper: string, key: string): Promise<Credentials | undefined> {
    try {
      const secret = await askHelper(helper, key, helperTimeoutMs);
      return secret && toCredentials(secret);
    } catch (error) {
      if (!(error instanceof HelperFailure)) throw error;
      onHelperFailed?.(error);
      return undefined;
    }
  }

  function reportFaults(faults: readonly string[]): void {
    const fault = faults.join('; ');
    if (fault !== '' && fault !== reported) onFault?.(fault);
    reported = fault;
  }

  return async host => {
    const config = await readConfig(configPath);
    reportFaults(config.faults);
    const keys = host === 'docker.io' ? HUB_KEYS : [host, `https://${host}`, `http://${host}`];
    const helper = findByHost(config.credHelpers, keys)[0];
    if (helper) return ask(helper, keys[0] ?? host);
    const fromFile = findByHost(config.auths, keys)
      .map(findAuth)
      .find(found => found !== undefined);
    return fromFile ?? (config.credsStore ? ask(config.credsStore, keys[0] ?? host) : undefined);
  };
}

/** Exact keys first, then those with the same host. */
function findByHost<T>(entries: ReadonlyMap<string, T>, keys: readonly string[]): readonly T[] {
  const hosts = keys.map(hostOf);
  const exact = keys.flatMap(key => entries.get(key) ?? []);
  return [...exact, ...[...entries].flatMap(([key, entry]) => (hosts.includes(hostOf(key)) ? [entry] : []))];
}

function hostOf(key: string): string {
  return key
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/s, '')
    .toLowerCase();
}

/** A missing file means no credentials, and is not an error. */
async function readConfig(path: string): Promise<DockerConfig> {
  const nothing = { auths: new Map(), credHelpers: new Map(), credsStore: undefined };
  try {
    return parseConfig(configSchema.parse(parseJson(await readFile(path))));
  } catch (error) {
    return { ...nothing, faults: isAbsent(error) ? [] : [`nothing in it can be used: ${reasonOf(error)}`] };
  }
}

function parseConfig({ auths, credHelpers, credsStore }: z.infer<typeof configSchema>): DockerConfig {
  const faults: string[] = [];
  function read<T>(field: string, value: unknown, schema: z.ZodType<T>): NonNullable<T> | undefined {
    const { data, error } = schema.safeParse(value);
    if (error) faults.push(`${field}: ${reasonOf(error)}`);
    return data ?? undefined;
  }
  function each<T>(field: string, value: unknown, schema: z.ZodType<T>): ReadonlyMap<string, NonNullable<T>> {
    const parsed = new Map<string, NonNullable<T>>();
    for (const [key, entry] of Object.entries(read(field, value, entriesSchema) ?? {})) {
      const data = read(`${field}[${JSON.stringify(key.slice(0, 255))}]`, entry, schema);
      if (data) parsed.set(key, data);
    }
    return parsed;
  }
  return {
    auths: each('auths', auths, entrySchema),
    credHelpers: each('credHelpers', credHelpers, text),
    credsStore: read('credsStore', credsStore, text),
    faults,
  };
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** JSON's error message would quote the file. */
function reasonOf(error: unknown): string {
  if (error instanceof z.ZodError) {
    return error.issues.map(({ path, message }) => [...path.map(String), message].join(': ')).join(', ');
  }
  if (error instanceof Error && 'code' in error) return `it cannot be read (${error.code})`;
  return 'it is not JSON';
}

function findAuth(entry: NonNullable<z.infer<typeof entrySchema>>): Credentials | undefined {
  const [, decodedName, decodedPassword = ''] =
    /^([^:]+):(.*)$/s.exec(Buffer.from(entry.auth ?? '', 'base64').toString()) ?? [];
  const username = entry.username || decodedName;
  if (entry.identitytoken) return { username: username ?? TOKEN_NAME, identityToken: entry.identitytoken };
  const password = entry.password || withoutPadding(decodedPassword);
  return username && password ? { username, password } : undefined;
}

/** Some tools pad it with zeros. */
function withoutPadding(text: string): string {
  let end = text.length;
  while (text.charAt(end - 1) === '\0') end -= 1;
  return text.slice(0, end);
}

/** A helper's user name for an identity token. */
const TOKEN_NAME = '<token>';

function toCredentials({ username, secret }: { readonly username: string; readonly secret: string }): Credentials {
  return username === TOKEN_NAME ? { username, identityToken: secret } : { username, password: secret };
}

/** The Authorization header of the Basic scheme. RFC 7617. */
export function basic(credentials: Credentials): string {
  const password = 'password' in credentials ? credentials.password : credentials.identityToken;
  return `Basic ${Buffer.from(`${credentials.username}:${password}`).toString('base64')}`;
}

// Docker's credential helpers: programs that store secrets, used through the protocol of docker-credential-helpers.

interface HelperAnswer {
  readonly username: string;
  readonly secret: string;
}

/** A helper failed. The message has its name and what happened, but none of its output. */
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
async function askHelper(name: string, host: string, timeoutMs: number): Promise<HelperAnswer | undefined> {
  if (!HELPER_NAME.test(name)) throw new HelperFailure('a credential helper has an invalid name');
  const program = `docker-credential-${name}`;
  const { error, stdout, stderr } = await run(program, host, timeoutMs);
  if (error && /credentials not found/i.test(`${stdout}${stderr}`)) return undefined;
  if (error) throw new HelperFailure(`${program} ${helperReason(error, timeoutMs)}`);
  return parseAnswer(program, stdout);
}

function run(program: string, input: string, timeout: number): Promise<Outcome> {
  return new Promise(resolve => {
    const options = { timeout, killSignal: 'SIGKILL' } as const;
    const child = execFile(program, ['get'], options, (error, stdout, stderr) => resolve({ error, stdout, stderr }));
    // A helper that exits without reading its input has not failed.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** The message of the error itself would quote the helper's output. */
function helperReason({ code, killed }: ExecFileException, timeoutMs: number): string {
  if (code === 'ENOENT') return 'is not in PATH';
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'printed too much';
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
