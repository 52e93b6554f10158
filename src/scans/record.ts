// The record of a vulnerability scan, and what it means for the request that wanted it.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';

/** `sc-<16 hex>_<n>`: the hex is of what is scanned, n counts the attempts at it from 1. */
export const scanIdSchema = z.string().regex(/^sc-[0-9a-f]{16}_[1-9]\d{0,8}$/);

/** What requests may allow, from the least severe. */
export const SCAN_LEVELS = ['LOW', 'MEDIUM', 'HIGH', 'CRITICAL'] as const;
/** What scanners report; nothing is decided by `UNKNOWN`. */
export const SEVERITIES = ['UNKNOWN', ...SCAN_LEVELS] as const;

const vulnerabilitySchema = z.object({
  id: z.string(),
  severity: z.enum(SEVERITIES),
  title: z.string().optional(),
  pkgName: z.string(),
  installedVersion: z.string().optional(),
  fixedVersion: z.string().optional(),
  primaryUrl: z.string().optional(),
});

export const scanRecordSchema = z.object({
  id: scanIdSchema,
  /** Its name for people. */
  image: z.string(),
  /** The full name of the repository that whoever wants to see the result must be able to pull from. */
  repository: z.string(),
  /** The subject of the first caller who requested it; empty: an anonymous one. */
  caller: z.string().default(''),
  /** Of the build or copy that makes the image. */
  buildId: z.string().optional(),
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  /** Of the scanned root. */
  digest: z.string().refine(isDigest, 'expected a digest').optional(),
  /** Of the images that were scanned. */
  platforms: z.array(z.string()).default([]),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().optional(),
  endedAt: z.iso.datetime().optional(),
  /** Why it failed, in one line. */
  reason: z.string().optional(),
  /** How many were found of each severity; none of those that are absent. */
  counts: z.partialRecord(z.enum(SEVERITIES), z.int().nonnegative()).default({}),
  /** The most severe first, as many as are kept. */
  vulnerabilities: z.array(vulnerabilitySchema).default([]),
  /** What the scanner said beside its report, from its end. */
  logs: z.string().default(''),
});

export type Severity = (typeof SEVERITIES)[number];
export type ScanLevel = (typeof SCAN_LEVELS)[number];
export type Vulnerability = z.infer<typeof vulnerabilitySchema>;
export type ScanRecord = z.infer<typeof scanRecordSchema>;

/** What a request makes of a scan. */
export const scanDemandSchema = z.object({
  id: scanIdSchema,
  /** `async`: the image is there whatever comes of it. `required`: it is there when the scan allows it. */
  mode: z.enum(['async', 'required']),
  /** The severities that the image may have; none: it may have no known vulnerability. */
  levels: z.array(z.enum(SCAN_LEVELS)),
});

export type ScanDemand = z.infer<typeof scanDemandSchema>;

export function hasScanEnded({ status }: ScanRecord): boolean {
  return status === 'succeeded' || status === 'failed';
}

/**
 * Why the image must not be used; undefined where it may. `scan` has ended, or was deleted. Without one nothing is known of the image, which is no
 * better than a bad result.
 */
export function findRefusal({ id, mode, levels }: ScanDemand, scan: ScanRecord | undefined): string | undefined {
  if (mode === 'async') return undefined;
  if (!scan) return `the record of the scan ${id} was deleted`;
  if (scan.status !== 'succeeded') return `the scan ${id} failed: ${scan.reason ?? 'it has no result'}`;
  const over = SCAN_LEVELS.filter(level => !levels.includes(level) && (scan.counts[level] ?? 0) > 0);
  if (over.length === 0) return undefined;
  const found = over.toReversed().map(level => `${scan.counts[level]} ${level}`);
  const allowed = levels.length === 0 ? 'none is allowed' : `allowed are ${levels.join(', ')}`;
  return `the scan ${id} found vulnerabilities: ${found.join(', ')}; ${allowed} (scanLevels)`;
}
