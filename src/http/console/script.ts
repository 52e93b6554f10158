// The script of pages: refreshes live regions, and copies texts. Without scripts pages are complete, but not refreshed.

/** It only inserts pages from the same address, already escaped by the service, or text. */
export const SCRIPT = `
const announce = document.getElementById('announce');

function addCopyButtons(root) {
  for (const block of root.querySelectorAll('.copy')) {
    if (block.querySelector('button')) continue;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'plain little';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', 'Copy ' + (block.dataset.what || 'the text'));
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector('pre').textContent);
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(block.querySelector('pre'));
        button.textContent = 'Selected';
      }
      announce.textContent = button.textContent;
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    });
    block.append(button);
  }
}

/** Where somebody is reading or choosing something, nothing moves. */
function isInUse(region) {
  const selection = getSelection();
  const isSelected = selection !== null && !selection.isCollapsed && region.contains(selection.anchorNode);
  return isSelected || region.contains(document.activeElement) || region.querySelector('details[open]') !== null;
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: 'text/html' } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const region of document.querySelectorAll('[data-live]')) {
    const now = fresh.getElementById(region.id);
    if (now === null || now.innerHTML === region.innerHTML || isInUse(region)) continue;
    addCopyButtons(now);
    region.replaceWith(document.adoptNode(now));
  }
}

/** The shortest of what the regions of the page ask for, in seconds; those that have ended ask for nothing. */
function findPause() {
  const pauses = [...document.querySelectorAll('[data-live]')].map(each => Number(each.dataset.live)).filter(Boolean);
  return pauses.length === 0 ? undefined : Math.min(...pauses);
}

async function live() {
  for (;;) {
    const pause = findPause();
    if (pause === undefined) return;
    await new Promise(resolve => setTimeout(resolve, pause * 1000));
    if (document.hidden) continue;
    await refresh().catch(() => {});
  }
}

/** The maximum length of a log in a page, in characters. */
const MAX_LOG = 512 * 1024;

/** The log of a build from its beginning, as it grows. At its end the page is what it has become. */
async function follow(log) {
  const answer = await fetch(log.dataset.follow, { headers: { Accept: 'text/plain' } });
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  log.replaceChildren();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append(value);
    size += value.length;
    while (size > MAX_LOG && log.childNodes.length > 1) {
      size -= log.firstChild.textContent.length;
      log.firstChild.remove();
    }
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }
  await refresh();
}

for (const log of document.querySelectorAll('[data-follow]')) follow(log).catch(() => {});
addCopyButtons(document);
live();
`;
