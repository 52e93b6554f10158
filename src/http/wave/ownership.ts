// Ownership of builds, copies and tokens: callers do not see those of others.
import type { Context } from 'hono';
import { subjectOf } from '../../access/access.ts';
import type { Builds } from '../../builds/builds.ts';
import type { BuildRecord } from '../../builds/record.ts';
import type { TokenRecord } from '../../pull/tokens/record.ts';
import type { ScanRecord } from '../../scans/record.ts';
import type { Scans } from '../../scans/scans.ts';
import { callerOf, hasRight, isAdmin } from '../middleware/authentication.ts';

/**
 * Whether a build is the caller's own, or shared: started by an unnamed caller, or by a pull that a recipe applies to. Shared builds are
 * visible to anyone who may pull the image; so are own builds, while their owner may pull it. Administrators see all.
 */
export async function maySeeBuild(
  c: Context,
  { id, caller, isShared = false, spec }: BuildRecord,
  builds: Pick<Builds, 'wasSubmittedBy'>,
): Promise<boolean> {
  if (isAdmin(c)) return true;
  if (!hasRight(c, 'pull', spec.target.repository)) return false;
  if (caller === '' || isShared) return true;
  const subject = subjectOf(callerOf(c));
  return subject !== '' && (subject === caller || builds.wasSubmittedBy(id, subject));
}

/**
 * Whether the caller requested a scan, or an anonymous caller did. Independent of the right to pull the image. Administrators see all.
 */
export async function maySeeScan(
  c: Context,
  { id, caller }: ScanRecord,
  scans: Pick<Scans, 'wasRequestedBy'>,
): Promise<boolean> {
  if (caller === '' || isAdmin(c)) return true;
  const subject = subjectOf(callerOf(c));
  return subject !== '' && (subject === caller || scans.wasRequestedBy(id, subject));
}

/**
 * Whether the caller may see a token's record, and revoke it: its owner, and a client without credentials, for which the token is one, as
 * in a pull. Another named caller must have got it by accident.
 */
export function maySeeToken(c: Context, { caller: owner = '' }: TokenRecord): boolean {
  const subject = subjectOf(callerOf(c));
  return owner === '' || subject === '' || subject === owner || isAdmin(c);
}
