// Changes of an image config as written in a request or in the configuration: validates their fields one by one.
import { z } from 'zod';
import { atMost, mapSchema } from './bounded.ts';
import { InvalidPlatform, parsePlatform } from './platform.ts';

const MAX_USER = 256;
const MAX_WORKING_DIR = 4096;
const ENV = /^[^=]+=/;
const PORT = /^([1-9]\d{0,4})(?:\/(tcp|udp|sctp))?$/;

/** As many as docker's engine accepts. */
export const MAX_ADDED_LAYERS = 125;

/** For env, labels and everything else but the layers, as JSON: it becomes part of every platform's image config. */
const MAX_CHANGES_CHARACTERS = 1024 * 1024;

/** A string that can be passed to a process: a NUL would end it early. */
export const textSchema = z.string().refine(text => !text.includes('\0'), 'must not contain a NUL character');

/** The key `__proto__` could be lost on the way, and a requested change with it. */
export const textMapSchema = mapSchema(textSchema)
  .refine(map => !Object.hasOwn(map, '__proto__'), 'must not have the key "__proto__"')
  .refine(map => Object.keys(map).every(key => !key.includes('\0')), 'must not have a NUL character in a key');

/** `KEY=VALUE`. */
export const envEntrySchema = textSchema
  .regex(ENV, 'must be KEY=VALUE, with a key that is not empty')
  .refine(entry => !entry.startsWith('__proto__='), 'must not have the key "__proto__"');

/** Always with the protocol: "80/tcp". */
export const portSchema = z.string().transform((text, context) => {
  const [, port, protocol = 'tcp'] = PORT.exec(text) ?? [];
  if (port !== undefined && Number(port) <= 65535) return `${port}/${protocol}`;
  context.addIssue({ code: 'custom', message: 'must be a port from 1 to 65535, with /tcp, /udp or /sctp or without' });
  return z.NEVER;
});

/** A platform as accepted by parsePlatform. */
export const platformSchema = z.string().transform((text, context) => {
  try {
    return parsePlatform(text);
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
    return z.NEVER;
  }
});

/** An absolute path of Linux or Windows. No runtime starts a container with a relative one: runtime-spec config.md, `process.cwd`. */
export const workingDirSchema = textSchema
  .check(atMost(MAX_WORKING_DIR, 'characters'))
  .regex(/^(?:\/|[A-Za-z]:[\\/]|\\\\)/, 'must be an absolute path, such as /opt/tool');
export const userSchema = textSchema.check(atMost(MAX_USER, 'characters'));

/** Refuses changes of more than MAX_CHANGES_CHARACTERS. */
export function checkChangesLength({ value, issues }: z.core.ParsePayload<{ readonly layers?: unknown }>): void {
  const { layers, ...rest } = value;
  const { length } = JSON.stringify(rest);
  const message = `has ${length} characters besides its layers, over the limit of ${MAX_CHANGES_CHARACTERS}`;
  if (length > MAX_CHANGES_CHARACTERS) issues.push({ code: 'custom', message, input: value });
}
