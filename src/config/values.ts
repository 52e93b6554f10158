// Value types of the configuration file beyond those of YAML: durations, sizes, addresses and references to secrets.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { platformSchema } from '../oci/config-fields.ts';
import { EXPECTED_GLOB, isQuickGlob } from '../oci/name-pattern.ts';
import { formatPlatform } from '../oci/platform.ts';

/** Where `{ env: NAME }` is looked up. */
export type Environment = Readonly<Record<string, string | undefined>>;

const MS_PER_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** Node's timers overflow beyond this, and fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * `36h`, `5m`, `1.5s` in milliseconds, from `minMs` to `maxMs`; default: up to ten years, so that it can be added to any date.
 */
export function duration({ minMs = 0, maxMs = 3650 * 86_400_000 } = {}) {
  const schema = quantity(MS_PER_UNIT, 'a duration such as 30s, 5m, 36h or 7d', { min: minMs, max: maxMs });
  return schema.meta({ pattern: '^\\d+(\\.\\d+)? ?(ms|s|m|h|d)$', examples: ['30s', '5m', '36h', '7d'] });
}

/** `20MiB`, `4GiB` in bytes; default: at least one. */
export function size({ min = 1, max = Number.MAX_SAFE_INTEGER } = {}) {
  const schema = quantity(BYTES_PER_UNIT, 'a size such as 512KiB, 20MiB or 50GiB', { min, max });
  return schema.meta({ pattern: '^\\d+(\\.\\d+)? ?(B|KiB|MiB|GiB|TiB)$', examples: ['512KiB', '20MiB', '50GiB'] });
}

function quantity(units: Readonly<Record<string, number>>, what: string, { min, max }: { min: number; max: number }) {
  return z.string(`expected ${what}`).transform((text, context) => {
    const [, amount, unit = ''] = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)$/.exec(text) ?? [];
    const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
    const value = Math.round(Number(amount) * (factor ?? Number.NaN));
    if (value >= min && value <= max) return value;
    const tooFar =
      value < min ? `is too small: at least ${format(min, units)}` : `is too large: at most ${format(max, units)}`;
    context.addIssue({ code: 'custom', message: Number.isNaN(value) ? `expected ${what}` : tooFar });
    return z.NEVER;
  });
}

/** In the largest unit in which it is at least one, rounded down. */
function format(value: number, units: Readonly<Record<string, number>>): string {
  const [unit = '', factor = 1] = Object.entries(units).findLast(([, each]) => each <= value) ?? [];
  return `${Math.floor(value / factor)}${unit}`;
}

/** `25/24h`: a number of requests per period; `none`: unlimited. */
export function rate() {
  return z.string('expected a rate such as 25/24h').transform((text, context) => {
    if (text === 'none') return undefined;
    const [, count, per = ''] = /^([1-9]\d{0,8})\/(.+)$/.exec(text) ?? [];
    const time = duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).safeParse(per);
    if (count !== undefined && time.success) return { count: Number(count), perMs: time.data };
    context.addIssue({ code: 'custom', message: 'expected a rate such as 25/24h or 250/1h, or none' });
    return z.NEVER;
  });
}

/** The address to listen on. Port 0 lets the system choose. */
export interface Listen {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, with brackets around an IPv6 address; the brackets are not part of `host`. */
export function listenAddress() {
  return z.string('expected host:port').transform((text, context): Listen => {
    const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
    const host = bracketed ?? plain;
    if (host !== undefined && Number(port) <= 65_535) return { host, port: Number(port) };
    context.addIssue({ code: 'custom', message: 'expected host:port, such as 127.0.0.1:8080 or [::1]:8080' });
    return z.NEVER;
  });
}

/** An http(s) URL without credentials, query or fragment. */
export function httpUrl() {
  return z.string('expected an http or https URL').transform((text, context): URL => {
    const url = URL.parse(text);
    const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:';
    if (url && isHttp && !url.username && !url.password && !url.search && !url.hash) return url;
    const message =
      'expected an http or https URL without credentials, query or fragment, such as https://registry.example:5000';
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

/**
 * An http(s) URL that may be a secret as a whole: text, `{ env: NAME }` or `{ file: PATH }`. User info and query are allowed.
 */
export function secretUrl(env: Environment) {
  return secret(env).transform((text, context): URL => {
    const url = URL.parse(text);
    if (url && ['http:', 'https:'].includes(url.protocol)) return url;
    context.addIssue({ code: 'custom', message: 'expected an http or https URL' });
    return z.NEVER;
  });
}

/** `host` or `host:port`, as in `parseHost`. */
export function host() {
  return z.string('expected a host').transform((text, context): string => {
    const parsed = parseHost(text);
    if (parsed !== undefined) return parsed;
    const message = 'expected a host, with its port if that is not 443, such as auth.example.com or 10.0.0.1:9000';
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

/** A host name or address without a port, in the form of URLs: in lower case, IPv6 in brackets. */
export function hostName() {
  return z.string('expected a name').transform((text, context): string => {
    const lower = text.toLowerCase();
    if (URL.parse(`http://${lower}`)?.hostname === lower) return lower;
    const message = 'expected a host name or address without a port, such as veneer, veneer.example or [fd00::1]';
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

/** A host, and its port unless that is 443, in lower case; undefined for anything else. */
export function parseHost(text: string): string | undefined {
  const lower = text.toLowerCase().replace(/:443$/, '');
  return URL.parse(`https://${lower}`)?.host === lower ? lower : undefined;
}

/** Matched against names that clients choose: a slow match would block everyone. */
export function glob() {
  return z.string().refine(isQuickGlob, EXPECTED_GLOB);
}

/** Normalised. */
export function platform() {
  return platformSchema.transform(formatPlatform);
}

/**
 * The text itself, or `{ env: NAME }` or `{ file: PATH }` to read it from; the line break at the end of a file is removed.
 */
export function secret(env: Environment) {
  const what = 'expected text, { env: NAME } or { file: PATH }';
  const forms = [z.string().min(1), z.strictObject({ env: z.string() }), z.strictObject({ file: z.string() })] as const;
  return z.union(forms, what).transform((given, context): string => {
    const found = readSecret(given, env);
    if (typeof found === 'string') return found;
    context.addIssue({ code: 'custom', message: found.fault });
    return z.NEVER;
  });
}

function readSecret(given: string | { env: string } | { file: string }, env: Environment): string | { fault: string } {
  if (typeof given === 'string') return given;
  if ('env' in given) return env[given.env] || { fault: `the environment variable ${given.env} is not set` };
  const text = readText(given.file);
  if (typeof text !== 'string') return text;
  return text.replace(/\r?\n$/, '') || { fault: `${given.file} is empty` };
}

/** The text of a file, or the reason why it cannot be read. */
export function readText(path: string): string | { readonly fault: string; readonly isMissing: boolean } {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    // readFileSync only throws system errors, with a code, and Node's own for an invalid path.
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    return { fault: `cannot read ${path} (${code})`, isMissing: code === 'ENOENT' };
  }
}

const MAX_WORDS = 100;

/** The words of a command, starting with the program: no shell is involved. Each placeholder must occur. */
export function commandLine(placeholders: Readonly<Record<string, string>>) {
  const command = z
    .array(z.string())
    .min(1)
    .max(MAX_WORDS)
    .refine(([program = '']) => program !== '' && !program.includes('{'), 'the first word must be a program');
  return Object.entries(placeholders).reduce(
    (schema, [name, what]) =>
      schema.refine(words => words.some(word => word.includes(`{${name}}`)), `must contain {${name}}, ${what}`),
    command,
  );
}
