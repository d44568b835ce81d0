//! Projects, people and documents, in memory. A *team* is everybody in any project of one owner, the owner included, each
//! person once. A document belongs to who added it, wherever it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::answer::Failure;

/// All that there is.
#[derive(Debug, Default)]
pub struct Store {
    projects: Vec<Project>,
    documents: Vec<Document>,
    projects_made: u64,
    documents_made: u64,
}

/// A project.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Project {
    pub id: String,
    pub name: String,
    pub description: String,
    pub owner: String,
    /// Roles, by e-mail address.
    pub collaborators: BTreeMap<String, String>,
    pub model: String,
    pub skills: Vec<String>,
}

/// A document, a text or an item. What it says is left out: this application only tells what it has.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    pub id: String,
    pub title: String,
    pub added_by: String,
    pub project_id: Option<String>,
    /// Bytes of the file, or of the text as UTF-8.
    pub file_size: usize,
}

/// What went with a project.
#[derive(Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Bytes of the owner's documents in it.
    pub documents_size: usize,
    /// People who are in no other project of the owner.
    pub team_left: usize,
}

impl Project {
    fn has(&self, person: &str) -> bool {
        self.owner == person || self.collaborators.contains_key(person)
    }
}

impl Store {
    /// A new project, and how many people came to its owner's team: the owner, with the first one.
    pub fn create(&mut self, owner: &str, name: String, description: String) -> (Project, usize) {
        let before = self.team(owner).len();
        self.projects_made += 1;
        let id = format!("project-{}", self.projects_made);
        let model = "standard".to_owned();
        let project = Project { id, name, description, owner: owner.to_owned(), model, ..Project::default() };
        self.projects.push(project.clone());
        (project, self.team(owner).len() - before)
    }

    /// The projects that somebody owns or was added to.
    pub fn projects_of(&self, person: &str) -> Vec<Project> {
        self.projects.iter().filter(|project| project.has(person)).cloned().collect()
    }

    /// A project that somebody is in.
    pub fn project(&self, id: &str, person: &str) -> Result<&Project, Failure> {
        let found = self.projects.iter().find(|project| project.id == id && project.has(person));
        found.ok_or(Failure::NoProject)
    }

    /// The same, to be changed.
    pub fn project_mut(&mut self, id: &str, person: &str) -> Result<&mut Project, Failure> {
        let found = self.projects.iter_mut().find(|project| project.id == id && project.has(person));
        found.ok_or(Failure::NoProject)
    }

    /// Deletes a project with its owner's documents. What others added stays theirs, in no project.
    pub fn delete_project(&mut self, id: &str, caller: &str) -> Result<Deleted, Failure> {
        self.owned(id, caller)?;
        let before = self.team(caller).len();
        let of_project = |document: &Document| document.project_id.as_deref() == Some(id);
        let of_owner = |document: &Document| of_project(document) && document.added_by == caller;
        let documents_size = self
            .documents
            .iter()
            .filter(|document| of_owner(document))
            .map(|document| document.file_size)
            .sum();
        self.documents.retain(|document| !of_owner(document));
        for document in self.documents.iter_mut().filter(|document| of_project(document)) {
            document.project_id = None;
        }
        self.projects.retain(|project| project.id != id);
        Ok(Deleted { documents_size, team_left: before - self.team(caller).len() })
    }

    /// Adds a person to a project, and says how many came to the owner's team: none, if the person was in it already.
    pub fn add_person(
        &mut self,
        id: &str,
        caller: &str,
        email: &str,
        role: String,
    ) -> Result<usize, Failure> {
        let before = self.team(caller).len();
        let project = self.owned(id, caller)?;
        if project.has(email) {
            return Err(Failure::InProjectAlready);
        }
        project.collaborators.insert(email.to_owned(), role);
        Ok(self.team(caller).len() - before)
    }

    /// Gives somebody of the team a role in a project.
    pub fn put_person(&mut self, id: &str, caller: &str, email: &str, role: String) -> Result<(), Failure> {
        let is_known = caller != email && self.team(caller).contains(email);
        let project = self.owned(id, caller)?;
        if !is_known {
            return Err(Failure::NotInTeam);
        }
        project.collaborators.insert(email.to_owned(), role);
        Ok(())
    }

    /// Takes a person out of a project, and says how many left the team.
    pub fn remove_person(&mut self, id: &str, caller: &str, email: &str) -> Result<usize, Failure> {
        let before = self.team(caller).len();
        let project = self.owned(id, caller)?;
        project.collaborators.remove(email).ok_or(Failure::NotInTeam)?;
        Ok(before - self.team(caller).len())
    }

    /// Adds a document of the caller, to a project that the caller is in or to none.
    pub fn add_document(
        &mut self,
        caller: &str,
        project_id: Option<String>,
        title: String,
        file_size: usize,
    ) -> Result<Document, Failure> {
        if let Some(id) = &project_id {
            self.project(id, caller)?;
        }
        self.documents_made += 1;
        let id = format!("document-{}", self.documents_made);
        let document = Document { id, title, added_by: caller.to_owned(), project_id, file_size };
        self.documents.push(document.clone());
        Ok(document)
    }

    /// Documents that somebody added.
    pub fn documents_of(&self, person: &str) -> Vec<Document> {
        self.documents.iter().filter(|document| document.added_by == person).cloned().collect()
    }

    /// Documents in a project.
    pub fn documents_in(&self, id: &str) -> Vec<Document> {
        let is_in = |document: &&Document| document.project_id.as_deref() == Some(id);
        self.documents.iter().filter(is_in).cloned().collect()
    }

    /// Deletes a document of the caller's own: what it held is given back to who added it, so nobody else may.
    pub fn delete_document(&mut self, id: &str, caller: &str) -> Result<Document, Failure> {
        let is_it = |document: &Document| document.id == id && document.added_by == caller;
        let at = self.documents.iter().position(is_it).ok_or(Failure::NoDocument)?;
        Ok(self.documents.remove(at))
    }

    fn owned(&mut self, id: &str, caller: &str) -> Result<&mut Project, Failure> {
        let project = self.project_mut(id, caller)?;
        if project.owner == caller { Ok(project) } else { Err(Failure::NotOwner) }
    }

    fn team<'a>(&'a self, owner: &str) -> BTreeSet<&'a str> {
        let owned = self.projects.iter().filter(|project| project.owner == owner);
        let people = |project: &'a Project| project.collaborators.keys().chain([&project.owner]);
        owned.flat_map(people).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(store: &mut Store, owner: &str) -> (String, usize) {
        let (project, joined) = store.create(owner, "p".to_owned(), String::new());
        (project.id, joined)
    }

    fn add(store: &mut Store, id: &str, email: &str) -> Result<usize, Failure> {
        store.add_person(id, "ana", email, "editor".to_owned())
    }

    #[test]
    fn each_person_is_in_a_team_once_however_many_projects_there_are() {
        let mut store = Store::default();
        let (first, owner) = project(&mut store, "ana");
        let (second, again) = project(&mut store, "ana");
        assert_eq!((owner, again), (1, 0));
        assert_eq!(add(&mut store, &first, "bo"), Ok(1));
        assert_eq!(add(&mut store, &second, "bo"), Ok(0));
        assert_eq!(add(&mut store, &second, "bo"), Err(Failure::InProjectAlready));
        assert_eq!(store.remove_person(&first, "ana", "bo"), Ok(0));
        assert_eq!(store.remove_person(&second, "ana", "bo"), Ok(1));
        assert_eq!(store.remove_person(&second, "ana", "bo"), Err(Failure::NotInTeam));
    }

    #[test]
    fn only_who_is_in_the_team_is_put_into_another_project() {
        let mut store = Store::default();
        let (first, _) = project(&mut store, "ana");
        let (second, _) = project(&mut store, "ana");
        assert_eq!(store.put_person(&second, "ana", "bo", String::new()), Err(Failure::NotInTeam));
        add(&mut store, &first, "bo").unwrap();
        assert_eq!(store.put_person(&second, "ana", "bo", String::new()), Ok(()));
        assert_eq!(store.put_person(&second, "ana", "ana", String::new()), Err(Failure::NotInTeam));
    }

    #[test]
    fn a_deleted_project_takes_its_owners_documents_and_leaves_those_of_others() {
        let mut store = Store::default();
        let (id, _) = project(&mut store, "ana");
        add(&mut store, &id, "bo").unwrap();
        store.add_document("ana", Some(id.clone()), String::new(), 10).unwrap();
        store.add_document("ana", None, String::new(), 100).unwrap();
        let of_bo = store.add_document("bo", Some(id.clone()), String::new(), 1000).unwrap();
        assert_eq!(store.delete_project(&id, "bo"), Err(Failure::NotOwner));
        assert_eq!(store.delete_project(&id, "ana"), Ok(Deleted { documents_size: 10, team_left: 2 }));
        assert_eq!(store.delete_project(&id, "ana"), Err(Failure::NoProject));
        assert_eq!(store.delete_document(&of_bo.id, "bo").map(|document| document.file_size), Ok(1000));
    }

    #[test]
    fn a_document_is_deleted_once_and_by_who_added_it() {
        let mut store = Store::default();
        let document = store.add_document("ana", None, String::new(), 10).unwrap();
        assert_eq!(store.delete_document(&document.id, "bo").err(), Some(Failure::NoDocument));
        assert!(store.delete_document(&document.id, "ana").is_ok());
        assert_eq!(store.delete_document(&document.id, "ana").err(), Some(Failure::NoDocument));
    }
}
