// The key `scans`: the vulnerability scanner, and how much it does at a time.
import { z } from 'zod';
import { commandLine, duration, MAX_TIMER_MS, size } from './values.ts';

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
