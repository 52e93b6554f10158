// The key `events`: which webhooks receive events.
import { z } from 'zod';
import { duration, type Environment, glob, MAX_TIMER_MS, secret, secretUrl } from './values.ts';

/** HTTP sets these itself. */
const OWN_HEADERS = /^(?:connection|content-length|expect|keep-alive|te|trailer|transfer-encoding|upgrade)$/i;

export function eventsSchema(env: Environment) {
  return z.strictObject({
    endpoints: z
      .array(endpointSchema(env))
      .default([])
      .refine(all => new Set(all.map(({ name }) => name)).size === all.length, 'two endpoints have the same name'),
  });
}

function endpointSchema(env: Environment) {
  const headerName = z
    .string()
    .regex(/^[\w!#$%&'*+.^`|~-]+$/, 'expected a header name')
    .refine(name => !OWN_HEADERS.test(name), 'expected a header other than those that HTTP sets itself');
  const headerValue = secret(env).refine(value => /^[\t\x20-\x7e]*$/.test(value), 'expected one line of ASCII');
  return z
    .strictObject({
      name: z.string().regex(/^[\w.-]{1,64}$/, 'expected letters, digits, ".", "_" and "-"'),
      url: secretUrl(env),
      headers: z.record(headerName, headerValue).default({}),
      on: z
        .array(z.enum(['push', 'pull', 'delete', 'build', 'damaged']))
        .min(1)
        .default(['push', 'delete', 'build', 'damaged']),
      /** Globs of repositories. */
      repositories: z.array(glob().min(1).max(512)).min(1).default(['**']),
      timeout: duration({ minMs: 1, maxMs: MAX_TIMER_MS }).prefault('10s'),
      retries: z.int().nonnegative().max(1000).default(15),
    })
    .transform(({ timeout, ...rest }) => ({ ...rest, timeoutMs: timeout }));
}
