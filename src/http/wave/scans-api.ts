// Scans: their records, the scanner's reports, and the SBOM of the image.
import { type Context, Hono } from 'hono';
import { hasScanEnded, type ScanRecord } from '../../scans/record.ts';
import type { Scans } from '../../scans/scans.ts';
import { ApiError } from '../../submit/errors.ts';
import { isAdmin, requireRight } from '../middleware/authentication.ts';
import { durationSeconds, isMirror } from './build-response.ts';
import { maySeeScan } from './builds-api.ts';

const PATH = '/v1alpha1/scans/:id';

export function createScansApi(scans: Pick<Scans, 'find' | 'wasRequestedBy' | 'findSpdx'>): Hono {
  const app = new Hono();
  app.get(PATH, async c => c.json(scanResponse(await getScan(c, scans))));
  app.get(`${PATH}/logs`, async c => {
    const { logs } = await getScan(c, scans);
    return c.body(logs, 200, { 'Content-Type': 'text/plain; charset=utf-8' });
  });
  app.get(`${PATH}/spdx`, async c => {
    const scan = await getScan(c, scans);
    const spdx = await scans.findSpdx(scan.id);
    if (spdx === undefined) throw new ApiError(404, `${scan.id} has no SBOM: ${whyNoSpdx(scan)}`);
    return c.body(spdx, 200, { 'Content-Type': 'application/spdx+json' });
  });
  return app;
}

/** The scan in the path, for callers who may pull the image and requested it. Throws 404 for any other scan, UNAUTHORIZED or DENIED. */
export async function getScan(c: Context, scans: Pick<Scans, 'find' | 'wasRequestedBy'>): Promise<ScanRecord> {
  const scan = await scans.find(c.req.param('id') ?? '');
  if (!scan) throw unknownScan();
  if (isAdmin(c)) return scan;
  requireRight(c, 'pull', scan.repository);
  if (!(await maySeeScan(c, scan, scans))) throw unknownScan();
  return scan;
}

function unknownScan(): ApiError {
  return new ApiError(404, 'this scan is unknown, or its record was deleted');
}

function whyNoSpdx({ status }: ScanRecord): string {
  if (status === 'failed') return 'the scan failed';
  if (status !== 'succeeded') return 'the scan has not ended yet';
  return 'no command makes one (scans.sbom in veneer.yaml), or it was too large';
}

const STATUSES = { queued: 'PENDING', running: 'PENDING', succeeded: 'SUCCEEDED', failed: 'FAILED' } as const;

/** Also for its page. */
export function scanResponse(scan: ScanRecord) {
  const { id, image, buildId, digest, platforms, startedAt, endedAt, createdAt, reason, logs, counts } = scan;
  return {
    id,
    scanId: id,
    status: STATUSES[scan.status],
    ...(hasScanEnded(scan) && {
      succeeded: scan.status === 'succeeded',
      exitCode: scan.status === 'succeeded' ? 0 : 1,
    }),
    containerImage: image,
    ...(buildId !== undefined && { [isMirror(buildId) ? 'mirrorId' : 'buildId']: buildId }),
    ...(digest && { digest }),
    ...(platforms.length > 0 && { platform: platforms.join(',') }),
    creationTime: createdAt,
    ...(startedAt && { startTime: startedAt }),
    ...(endedAt && { duration: durationSeconds(startedAt ?? createdAt, endedAt) }),
    ...(reason && { reason }),
    ...(scan.status === 'succeeded' && { counts, vulnerabilities: scan.vulnerabilities }),
    ...(logs && { logs }),
  };
}
