// The record of a vulnerability scan, and its consequences for the request that demanded it.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';

/** `sc-<16 hex>_<n>`: the hex identifies the subject, n counts its scans from 1. */
export const scanIdSchema = z.string().regex(/^sc-[0-9a-f]{16}_[1-9]\d{0,8}$/);

/** The severities that requests may allow, least severe first. */
export const SCAN_LEVELS = ['LOW', 'MEDIUM', 'HIGH', 'CRITICAL'] as const;
/** The severities that scanners report; `UNKNOWN` never refuses an image. */
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
  /** Its display name. */
  image: z.string(),
  /** The full name of a repository: callers who may pull from it may see the result. */
  repository: z.string(),
  /** The subject of the first caller who requested it; empty: an anonymous one. */
  caller: z.string().default(''),
  /** Of the build or copy that makes the image. */
  buildId: z.string().optional(),
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  /** The digest of the scanned index or image. */
  digest: z.string().refine(isDigest, 'expected a digest').optional(),
  /** The platforms that were scanned. */
  platforms: z.array(z.string()).default([]),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().optional(),
  endedAt: z.iso.datetime().optional(),
  /** Why it failed, in one line. */
  reason: z.string().optional(),
  /** The number of vulnerabilities by severity; absent ones are zero. */
  counts: z.partialRecord(z.enum(SEVERITIES), z.int().nonnegative()).default({}),
  /** The most severe first, up to a limit. */
  vulnerabilities: z.array(vulnerabilitySchema).default([]),
  /** The end of the scanner's log. */
  logs: z.string().default(''),
});

export type Severity = (typeof SEVERITIES)[number];
export type ScanLevel = (typeof SCAN_LEVELS)[number];
export type Vulnerability = z.infer<typeof vulnerabilitySchema>;
export type ScanRecord = z.infer<typeof scanRecordSchema>;

/** The scan that a request demands. */
export const scanDemandSchema = z.object({
  id: scanIdSchema,
  /** `async`: the image is available regardless of the result. `required`: it is available once the scan allows it. */
  mode: z.enum(['async', 'required']),
  /** The allowed severities; none: the image must have no known vulnerability. */
  levels: z.array(z.enum(SCAN_LEVELS)),
});

export type ScanDemand = z.infer<typeof scanDemandSchema>;

export function hasScanEnded({ status }: ScanRecord): boolean {
  return status === 'succeeded' || status === 'failed';
}

/**
 * Why the image must not be used; undefined where it may. `scan` has ended, or is undefined where its record was deleted: an image without
 * a result is refused.
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
