// The keys `events` and `scans`: which webhooks are told of events, and which scanner looks through images.
import { z } from 'zod';
import { commandLine, duration, type Environment, glob, MAX_TIMER_MS, secret, secretUrl, size } from './values.ts';

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

const LAYOUT = { layout: 'the folder of the image' };

/** The arguments of each known scanner. */
const SCANNERS = {
  trivy: {
    command: ['trivy', 'image', '--input', '{layout}', '--format', 'json', '--scanners', 'vuln', '--quiet'],
    sbom: ['trivy', 'image', '--input', '{layout}', '--format', 'spdx-json', '--quiet'],
  },
  grype: {
    command: ['grype', 'oci-dir:{layout}', '--output', 'json', '--quiet'],
    sbom: ['syft', 'oci-dir:{layout}', '--output', 'spdx-json', '--quiet'],
  },
} as const;

/** Without `scanner` and `command`, scanning is disabled. */
export function scansSchema() {
  return z
    .strictObject({
      scanner: z.enum(['trivy', 'grype']).optional(),
      /** Prints the JSON of trivy or grype. */
      command: commandLine(LAYOUT).optional(),
      /** Prints SPDX JSON. */
      sbom: commandLine(LAYOUT).optional(),
      timeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('10m'),
      maxOutput: size({ max: 256 * 1024 ** 2 }).prefault('16MiB'),
      /** The compressed size of all layers of an image for one platform. */
      maxImage: size().prefault('10GiB'),
      concurrency: z.int().positive().max(100).default(1),
      queue: z.int().positive().max(10_000).default(100),
      fresh: duration().prefault('24h'),
      keep: duration({ minMs: 60_000 }).prefault('30d'),
    })
    .refine(({ scanner, command }) => scanner === undefined || command === undefined, {
      path: ['command'],
      message: 'scanner already determines the command: remove either',
    })
    .transform(({ scanner, command, sbom, timeout, maxImage, queue, fresh, keep, ...rest }) => {
      const known = scanner && SCANNERS[scanner];
      return {
        ...rest,
        command: command ?? known?.command,
        sbom: sbom ?? known?.sbom,
        timeoutMs: timeout,
        maxImageBytes: maxImage,
        maxQueued: queue,
        freshMs: fresh,
        keepMs: keep,
      };
    });
}
